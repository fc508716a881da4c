"""Differences between rows: the same problems, the same seeds, resampled together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 5000
_TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def accuracy(rights_SP: npt.NDArray[np.float64]) -> Interval:
    """Of one row: S seeds × P problems of 0 and 1."""
    return _interval(rights_SP)


def difference(first_SP: npt.NDArray[np.float64], second_SP: npt.NDArray[np.float64]) -> Interval:
    """First minus second; a seed's two runs learned from the same questions, and were asked the same problems."""
    return _interval(first_SP - second_SP)


def _interval(values_SP: npt.NDArray[np.float64]) -> Interval:
    """Bootstrap over both: another seed is another world and another initial model, another problem another test.

    What few seeds show of their spread is too small, so that the interval is widened by √(S/(S-1)) and by Student's t
    with S-1 degrees of freedom over the normal quantile. With one seed only the problems vary, and the interval says
    nothing about other seeds.
    """
    rng = np.random.default_rng(0)
    seeds, problems = values_SP.shape
    means_R = np.empty(_RESAMPLES)
    for number in range(_RESAMPLES):
        drawn_S = rng.integers(0, seeds, seeds)
        drawn_P = rng.integers(0, problems, problems)
        means_R[number] = values_SP[np.ix_(drawn_S, drawn_P)].mean()
    low, high = np.quantile(means_R, [_TAIL, 1 - _TAIL])
    mean, wider = float(values_SP.mean()), _widening(seeds)
    return Interval(mean, mean - wider * (mean - float(low)), mean + wider * (float(high) - mean))


def _widening(seeds: int) -> float:
    from scipy.stats import norm, t

    if seeds == 1:
        return 1.0
    return float((seeds / (seeds - 1)) ** 0.5 * t.ppf(1 - _TAIL, seeds - 1) / norm.ppf(1 - _TAIL))
