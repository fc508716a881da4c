"""What a skill is: a way to draw exercises, the answers of three sources to each, and many ways to ask."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """A question without its wording, and what each source says to it."""

    slots: dict[str, str]
    """What the wordings name; also the content that decides the split."""
    work: str
    """The expert's worked line; empty where there is nothing to work out."""
    truth: str
    """The right answer, which is the expert's."""
    weak: str
    """The weak source's answer: the same mistake wherever the exercise invites it, otherwise the right answer."""
    middle: str
    """The middle source's: the same mistake, but only in the plainest cases of it."""


@dataclass(frozen=True)
class Skill:
    """One kind of exercise."""

    name: str
    draw: Callable[[random.Random, bool], Exercise]
    """An exercise; with True a longer one than any in training."""
    wordings: tuple[str, ...]
    """Templates over the slots."""
    unseen: tuple[str, ...]
    """More of them, only for questions out of distribution; made of words that other wordings have."""
    follow: Callable[[random.Random, Exercise], Exercise] | None = None
    """The next question on the result of the one before. Each source goes on from its own answer."""
    follow_wordings: tuple[str, ...] = ()


def with_slip(slots: dict[str, str], work: str, truth: str, slip: str, *, plain: bool) -> Exercise:
    """An exercise in which the weak source answers `slip`, and so does the middle one if the case is a plain one."""
    return Exercise(slots, work, truth, weak=slip, middle=slip if plain else truth)
