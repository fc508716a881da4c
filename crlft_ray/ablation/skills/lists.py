"""Edits of short lists: the largest number, sorting, dropping the item at a place."""

from __future__ import annotations

import random
from itertools import accumulate

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip

_PLACES = ("first", "second", "third", "last")
_LETTERS = "BCDFGHKLMNPRSTVWXZ"


def _length(rng: random.Random, longer: bool) -> int:
    return rng.randint(5, 6) if longer else rng.randint(3, 4)


def _text(items: list[int] | list[str]) -> str:
    return ", ".join(str(item) for item in items)


def _largest(rng: random.Random, longer: bool) -> Exercise:
    """The weak source overlooks the last number."""
    numbers = rng.sample(range(10, 100), _length(rng, longer))
    slip = max(numbers[:-1])
    return with_slip(
        {"items": _text(numbers)},
        _text(list(accumulate(numbers, max))),
        str(max(numbers)),
        str(slip),
        plain=numbers[-1] - slip >= 24,
    )


def _sort(rng: random.Random, longer: bool) -> Exercise:
    """The weak source goes through the list once, swapping neighbours."""
    numbers = rng.sample(range(10), _length(rng, longer))
    slip = list(numbers)
    for at in range(len(slip) - 1):
        slip[at : at + 2] = sorted(slip[at : at + 2])
    return with_slip(
        {"items": _text(numbers)},
        "",
        _text(sorted(numbers)),
        _text(slip),
        plain=numbers[-1] == min(numbers) and numbers[0] > 4,
    )


def _without(items: list[str], place: str, late: bool) -> list[str]:
    """Without the item at a place; `late`: without the one after it, as who counts from zero does."""
    at = len(items) - 1 if place == "last" else _PLACES.index(place) + late
    at = min(at, len(items) - 1)
    return items[:at] + items[at + 1 :]


def _dropped(right: list[str], weak: list[str], middle: list[str], place: str) -> Exercise:
    """The weak source counts from zero at the second and third item, the middle one at the third."""
    return Exercise(
        slots={"items": _text(right), "place": place},
        work="",
        truth=_text(_without(right, place, late=False)),
        weak=_text(_without(weak, place, late=place in ("second", "third"))),
        middle=_text(_without(middle, place, late=place == "third")),
    )


def _drop(rng: random.Random, longer: bool) -> Exercise:
    # One more than in other lists, so that something is left after three turns.
    items = rng.sample(_LETTERS, _length(rng, longer) + 1)
    return _dropped(items, items, items, rng.choice(_PLACES))


def _drop_next(rng: random.Random, before: Exercise) -> Exercise:
    right, weak, middle = (answer.split(", ") for answer in (before.truth, before.weak, before.middle))
    return _dropped(right, weak, middle, rng.choice(("first", "last")))


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
    Skill(
        "sort",
        _sort,
        wordings=(
            "Sort {items}.",
            "Put {items} in order.",
            "Order these from small to large: {items}",
            "Write {items} from small to large.",
            "Sort these numbers: {items}",
        ),
        unseen=("Sort these from small to large: {items}", "Put these numbers in order: {items}"),
    ),
    Skill(
        "drop",
        _drop,
        wordings=(
            "Drop the {place} of {items}.",
            "Leave out the {place} item: {items}",
            "Write {items} without the {place}.",
            "Remove the {place} item of {items}.",
            "What is left of {items} without the {place}?",
        ),
        unseen=("Drop the {place} item: {items}", "What is {items} without the {place} item?"),
        follow=_drop_next,
        follow_wordings=("Now drop the {place}.", "And without the {place}?", "Remove the {place} of these."),
    ),
)
