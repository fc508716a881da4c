"""A number of a plan, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number of a plan."""

    value: float
    unit: str
    """bytes, bytes/s, s, h, tokens/s, FLOP, CPUs or steps."""
    formula: str
    """How it was worked out, with the numbers that went in."""
    estimate: bool = True
    """Nothing on this machine can check it; the others are compared with real engines in the tests."""


Figures = dict[str, Figure]


def exact(value: float, unit: str, formula: str) -> Figure:
    """A number that the tests compare with what real engines hold and send."""
    return Figure(value, unit, formula, estimate=False)


def billions(number: float) -> str:
    """For formulas: 6.74e9."""
    return f"{number:.3g}"
