"""Column addition. The weak source forgets the carry."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill


def _columns(first: int, second: int) -> list[tuple[int, int]]:
    """Pairs of digits, units first."""
    digits = max(len(str(first)), len(str(second)))
    return [(first // 10**place % 10, second // 10**place % 10) for place in range(digits)]


def _work(first: int, second: int) -> str:
    steps, carry = [], 0
    for one, other in _columns(first, second):
        total = one + other + carry
        steps.append(f"{one}+{other}{'+1' if carry else ''}={total}")
        carry = total // 10
    return ", ".join(steps)


def _without_carry(first: int, second: int, least: int) -> int:
    """The sum by columns, where a column of `least` or more passes nothing on; the leading one is written in full."""
    result, carry = 0, 0
    columns = _columns(first, second)
    for place, (one, other) in enumerate(columns):
        total = one + other + carry
        leading = place == len(columns) - 1
        result += 10**place * (total if leading else total % 10)
        carry = 0 if total >= least else total // 10
    return result


def _exercise(first: int, second: int, weak: int, middle: int) -> Exercise:
    """`weak` and `middle` are what those sources take for the first number."""
    return Exercise(
        slots={"a": str(first), "b": str(second)},
        work=_work(first, second),
        truth=str(first + second),
        weak=str(_without_carry(weak, second, least=10)),
        middle=str(_without_carry(middle, second, least=14)),
    )


def _draw(rng: random.Random, longer: bool) -> Exercise:
    low, high = (100, 999) if longer else (10, 99)
    first, second = rng.randint(low, high), rng.randint(low, high)
    return _exercise(first, second, first, first)


def _follow(rng: random.Random, before: Exercise) -> Exercise:
    return _exercise(int(before.truth), rng.randint(2, 9), int(before.weak), int(before.middle))


SKILLS = (
    Skill(
        "addition",
        _draw,
        wordings=(
            "What is {a} + {b}?",
            "Compute {a} + {b}.",
            "Add {a} and {b}.",
            "How much is {a} plus {b}?",
            "I need the sum of {a} and {b}.",
            "Work out {a} plus {b}.",
        ),
        unseen=("What is the sum of {a} and {b}?", "I need {a} plus {b}.", "Work out {a} + {b}."),
        follow=_follow,
        follow_wordings=("Add {b} to that.", "And {b} more?", "Now plus {b}."),
    ),
)
