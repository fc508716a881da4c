"""Differences between rows: of the same problems and the same seeds, both of which might have been others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 5000
_SPREADS = 20
"""Draws of Student's t for each resample: with few seeds its tails are so long that fewer move an interval's end."""
_TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def share(values_SP: npt.NDArray[np.float64]) -> Interval:
    """Of one row's ones: S seeds × P problems of 0 and 1. Student's t knows no bounds, a share does."""
    found = _interval(values_SP)
    return Interval(found.mean, max(0.0, found.low), min(1.0, found.high))


def difference(first_SP: npt.NDArray[np.float64], second_SP: npt.NDArray[np.float64]) -> Interval:
    """First minus second; a seed's two runs learned from the same questions, and were asked the same problems."""
    return _interval(first_SP - second_SP)


def _interval(values_SP: npt.NDArray[np.float64]) -> Interval:
    """Over both at once: another seed is another world and another initial model, another problem another test.

    Problems are resampled. A bootstrap over three to five seeds would say too little, as it can hardly leave what they
    span: theirs is Student's t with S-1 degrees of freedom. With one seed only the problems vary, and the interval says
    nothing about other seeds.
    """
    rng = np.random.default_rng(0)
    seeds, problems = values_SP.shape
    drawn_RP = rng.multinomial(problems, np.full(problems, 1 / problems), _RESAMPLES)
    means_R = drawn_RP @ values_SP.mean(axis=0) / problems
    if seeds > 1:
        spread = values_SP.mean(axis=1).std(ddof=1) / seeds**0.5
        means_R = (means_R + spread * rng.standard_t(seeds - 1, (_SPREADS, _RESAMPLES))).ravel()
    low, high = np.quantile(means_R, [_TAIL, 1 - _TAIL])
    return Interval(float(values_SP.mean()), float(low), float(high))
