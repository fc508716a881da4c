"""Problems on which a trained model is scored; the same ones for every world, whatever its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from crlft_ray.ablation.draw import Level, Split, draw_talk
from crlft_ray.ablation.skills import SKILLS

_MOST_TRIES = 1000


@dataclass(frozen=True)
class Problem:
    """What is asked, turn by turn, each turn after the model's own earlier replies; the last reply is scored."""

    questions: tuple[str, ...]
    answer: str
    """The right final answer to the last question."""
    slip: str
    """What the weak source says to it; the same in half of the problems, but for longer ones."""
    skill: str
    split: Split
    level: Level


def problems(split: Split, level: Level, count: int) -> list[Problem]:
    """The first `count` problems of a split at a level, the skills in turn; no two ask the same.

    Raises:
        ValueError: there are not that many.
    """
    rng = random.Random(f"problems {split} {level}")
    found: dict[tuple[str, ...], Problem] = {}
    for number in range(count):
        turn, which = divmod(number, len(SKILLS))
        skill = SKILLS[which]
        for _ in range(_MOST_TRIES):
            talk = draw_talk(rng, skill, split, level, slips=turn % 2 == 0)
            if talk.questions not in found:
                break
        else:
            raise ValueError(f"there are fewer than {count} problems in {split} at level '{level}': {skill.name} ends")
        last = talk.exercises[-1]
        found[talk.questions] = Problem(talk.questions, last.truth, last.weak, skill.name, split, level)
    return list(found.values())
