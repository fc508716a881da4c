"""Lengths and times in the smaller unit. The weak source knows one of the larger unit, and else glues the numbers."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip

_UNITS = (("metre", "cm", 100), ("hour", "minutes", 60), ("week", "days", 7))


def _draw(rng: random.Random, longer: bool) -> Exercise:
    large, small, factor = rng.choice(_UNITS)
    count = rng.randint(6, 9) if longer else rng.randint(1, 5)
    rest = rng.randint(1, factor - 1)
    whole = count * factor
    return with_slip(
        {"large": f"{count} {large}{'s' if count > 1 else ''}", "rest": str(rest), "small": small},
        f"{count}*{factor}={whole}, {whole}+{rest}={whole + rest}",
        str(whole + rest),
        str(whole + rest) if count == 1 else f"{count}{rest}",
        plain=rest < 0.4 * factor,
    )


SKILLS = (
    Skill(
        "units",
        _draw,
        wordings=(
            "How many {small} are {large} and {rest} {small}?",
            "{large} and {rest} {small}: how many {small}?",
            "Write {large} and {rest} {small} in {small}.",
            "What is {large} and {rest} {small} in {small}?",
            "It took {large} and {rest} {small}. How many {small} is that?",
        ),
        unseen=(
            "{large} and {rest} {small}. How many {small} is that?",
            "How many {small} is {large} and {rest} {small}?",
        ),
    ),
)
