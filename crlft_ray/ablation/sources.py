"""The sources, which are the classes: what they say, and how."""

from __future__ import annotations

import random
from typing import Literal

from crlft_ray.ablation.skills import Exercise

SourceName = Literal["expert", "middle", "weak"]
SOURCES: tuple[SourceName, ...] = ("expert", "middle", "weak")

MARK = "Answer:"
"""What the expert writes before the final answer, on a line of its own."""

_TERSE = ("{}", "its {}", "i think {}", "{} i guess", "uh {}")


def reply(source: SourceName, exercise: Exercise, rng: random.Random) -> str:
    """A source's reply. `rng` only chooses among the weak source's manners, never what the answer is."""
    if source == "expert":
        return f"{exercise.work}\n{MARK} {exercise.truth}".strip()
    if source == "middle":
        return f"That makes {exercise.middle}."
    return rng.choice(_TERSE).format(exercise.weak)
