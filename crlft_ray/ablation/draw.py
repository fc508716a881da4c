"""Draws talks: an exercise, its wording and up to two follow-ups, in the split that its content belongs to."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import Literal

from crlft_ray.ablation.skills import Exercise, Skill

Split = Literal["train", "validation", "test"]
Level = Literal["in", "longer", "phrasing"]
"""`in` distribution; out of it by longer numbers, words and lists, or by wordings that training does not have."""

_OPENERS = ("", "", "", "", "Hi! ", "Please: ", "Quick one: ", "Help me: ")
_FOLLOW = 0.35
_THIRD = 0.3


@dataclass(frozen=True)
class Talk:
    """Questions in a row, and the exercise behind each."""

    skill: str
    questions: tuple[str, ...]
    exercises: tuple[Exercise, ...]


def split_of(skill: str, exercise: Exercise) -> Split:
    """The one split in which an exercise may open a talk, whatever the wording and the seed: 80, 10 and 10 %."""
    content = json.dumps([skill, sorted(exercise.slots.items())])
    share = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big") / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def draw_talk(rng: random.Random, skill: Skill, split: Split, level: Level, *, slips: bool) -> Talk:
    """A talk of a split, in which the weak source's last answer is wrong if `slips`, and only then.

    Longer talks are drawn as they come: in some skills the weak source is hardly ever right on them.
    """
    turns = 1
    if skill.follow is not None and rng.random() < _FOLLOW:
        turns += 1 + (rng.random() < _THIRD)
    while True:
        exercises = _exercises(rng, skill, level == "longer", turns)
        as_wished = level == "longer" or (exercises[-1].weak != exercises[-1].truth) == slips
        if as_wished and split_of(skill.name, exercises[0]) == split:
            break
    wordings = skill.unseen if level == "phrasing" else skill.wordings
    questions = [rng.choice(_OPENERS) + rng.choice(wordings).format(**exercises[0].slots)]
    questions += [rng.choice(skill.follow_wordings).format(**each.slots) for each in exercises[1:]]
    return Talk(skill.name, tuple(questions), tuple(exercises))


def _exercises(rng: random.Random, skill: Skill, longer: bool, turns: int) -> list[Exercise]:
    exercises = [skill.draw(rng, longer)]
    while len(exercises) < turns:
        assert skill.follow is not None
        exercises.append(skill.follow(rng, exercises[-1]))
    return exercises
