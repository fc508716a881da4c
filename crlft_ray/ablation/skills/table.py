"""Looking a number up in a small table. The weak source slips to the next row, except in the first and last one."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill

_NAMES = ("apples", "pears", "plums", "figs", "nuts", "eggs", "beans", "leeks")


def _rows(table: str) -> list[tuple[str, str]]:
    rows = []
    for row in table.split(", "):
        name, _, number = row.partition(" ")
        rows.append((name, number))
    return rows


def _asked(table: str, name: str) -> Exercise:
    rows = _rows(table)
    numbers = [number for _, number in rows]
    at = [name for name, _ in rows].index(name)
    inside = 0 < at < len(rows) - 1
    return Exercise(
        slots={"table": table, "name": name},
        work="",
        truth=numbers[at],
        weak=numbers[at + 1] if inside else numbers[at],
        middle=numbers[at + 1] if inside and int(numbers[at]) < 8 else numbers[at],
    )


def _draw(rng: random.Random, longer: bool) -> Exercise:
    names = rng.sample(_NAMES, rng.randint(5, 6) if longer else rng.randint(3, 4))
    numbers = rng.sample(range(1, 20), len(names))
    return _asked(", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True)), rng.choice(names))


def _follow(rng: random.Random, before: Exercise) -> Exercise:
    table, asked = before.slots["table"], before.slots["name"]
    return _asked(table, rng.choice([name for name, _ in _rows(table) if name != asked]))


SKILLS = (
    Skill(
        "look-up",
        _draw,
        wordings=(
            "{table}. How many {name}?",
            "I have {table}. How many {name} do I have?",
            "List: {table}. What is the number of {name}?",
            "How many {name} are in the list {table}?",
            "Look up {name}: {table}",
        ),
        unseen=("List: {table}. How many {name} are in the list?", "What is the number of {name} in {table}?"),
        follow=_follow,
        follow_wordings=("And {name}?", "How many {name}?", "Now {name}."),
    ),
)
