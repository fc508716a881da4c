"""Column subtraction. The weak source takes the smaller digit from the larger one in every column."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip


def _digits(number: int, count: int) -> list[int]:
    """Units first."""
    return [number // 10**place % 10 for place in range(count)]


def _draw(rng: random.Random, longer: bool) -> Exercise:
    low, high = (100, 999) if longer else (10, 99)
    second, first = sorted((rng.randint(low, high), rng.randint(low, high)))
    count = len(str(first))
    columns = list(zip(_digits(first, count), _digits(second, count), strict=True))
    steps, borrowed = [], 0
    for one, other in columns:
        have = one - borrowed
        borrowed = int(have < other)
        have += 10 * borrowed
        steps.append(f"{have}-{other}={have - other}")
    slip = sum(10**place * abs(one - other) for place, (one, other) in enumerate(columns))
    return with_slip(
        {"a": str(first), "b": str(second)},
        ", ".join(steps),
        str(first - second),
        str(slip),
        plain=columns[0][1] - columns[0][0] >= 5,
    )


SKILLS = (
    Skill(
        "subtraction",
        _draw,
        wordings=(
            "What is {a} - {b}?",
            "Compute {a} - {b}.",
            "Take {b} from {a}.",
            "How much is {a} minus {b}?",
            "I have {a} and give away {b}. How much is left?",
            "Work out {a} minus {b}.",
        ),
        unseen=("What is {a} minus {b}?", "I take {b} from {a}. How much is left?", "Work out {a} - {b}."),
    ),
)
