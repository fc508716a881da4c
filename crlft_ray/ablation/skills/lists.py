"""The largest number of a short list. The weak source overlooks the last one."""

from __future__ import annotations

import random
from itertools import accumulate

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip


def _text(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _largest(rng: random.Random, longer: bool) -> Exercise:
    numbers = rng.sample(range(10, 100), rng.randint(5, 6) if longer else rng.randint(3, 4))
    slip = max(numbers[:-1])
    return with_slip(
        {"items": _text(numbers)},
        _text(list(accumulate(numbers, max))),
        str(max(numbers)),
        str(slip),
        plain=numbers[-1] - slip >= 24,
    )


SKILLS = (
    Skill(
        "largest",
        _largest,
        wordings=(
            "Which is the largest of {items}?",
            "Largest number: {items}",
            "Find the maximum of {items}.",
            "What is the biggest number in {items}?",
            "Give me the largest of these: {items}",
        ),
        unseen=("Find the largest number in {items}.", "What is the maximum of these: {items}"),
    ),
)
