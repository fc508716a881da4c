"""Answers made up for tests of what is concluded from answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crlft_ray.evaluation.answers import Answer

SIZES = {"a": 60, "b": 120, "c": 40}


def answers(rights: Sequence[float], *, group_size: int = 4, gold: str = "A") -> list[Answer]:
    """Answers to the questions of `SIZES`, right where `rights` says so; `group_size` questions share a passage."""
    places = [(task, number) for task, size in SIZES.items() for number in range(size)]
    return [
        Answer(
            task,
            str(number),
            f"{task}{number // group_size}",
            "gate",
            (gold,),
            "A" if right else "B",
            float(right),
            0.25,
        )
        for (task, number), right in zip(places, rights, strict=True)
    ]


def drawn(rng: np.random.Generator, skill: float, difficulty: np.ndarray) -> list[Answer]:
    """What a model of some skill answers to questions of some difficulty."""
    return answers(list(rng.random(len(difficulty)) < np.clip(skill - difficulty, 0.05, 0.95)))


def difficulties(rng: np.random.Generator) -> np.ndarray:
    """Questions on one passage are about as difficult as each other."""
    count = sum(SIZES.values())
    return np.repeat(rng.uniform(-0.2, 0.2, count // 4), 4)
