"""Intervals of paired differences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from crlft_ray.ablation.paired import difference, share

RNG = np.random.default_rng(1)


def _rights(share: float, seeds: int = 3, problems: int = 400) -> npt.NDArray[np.float64]:
    return (RNG.random((seeds, problems)) < share).astype(float)


def test_the_mean_lies_in_its_interval() -> None:
    # Of three seeds Student's t makes it wide, however many problems there are.
    for seeds, width in ((3, 0.3), (10, 0.1)):
        found = share(_rights(0.7, seeds=seeds))
        assert found.low < found.mean < found.high
        assert 0.65 < found.mean < 0.75
        assert found.high - found.low < width


def test_an_accuracy_lies_between_0_and_1() -> None:
    found = share(np.asarray([[0.9], [0.2], [1.0]]) + np.zeros((3, 100)))
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_row_does_not_differ_from_itself() -> None:
    rights = _rights(0.5)
    found = difference(rights, rights)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_pairing_sees_what_two_intervals_would_not() -> None:
    """Of models that are right on nearly the same problems the difference is known far better than each accuracy."""
    worse = _rights(0.5)
    better = worse.copy()
    better[:, :20] = 1.0
    found = difference(better, worse)
    assert found.low > 0
    assert share(worse).high > share(better).low


def test_seeds_that_disagree_widen_the_interval() -> None:
    problems = 400
    same = np.repeat([[0.5]], 3, axis=0) + np.zeros((3, problems))
    apart = np.asarray([[0.2], [0.5], [0.8]]) + np.zeros((3, problems))
    assert share(apart).high - share(apart).low > share(same).high - share(same).low + 0.2


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for _ in range(60):
        found = share(_rights(0.6, seeds=1, problems=150))
        covered += found.low <= 0.6 <= found.high
    assert covered >= 51


@pytest.mark.parametrize("seeds", [3, 5])
def test_it_covers_the_truth_with_few_seeds_that_differ(seeds: int) -> None:
    """Seeds' accuracies around 0.5; what many of them would give is the truth."""
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(100):
        accuracies_S = np.clip(rng.normal(0.5, 0.08, seeds), 0, 1)
        found = share((rng.random((seeds, 200)) < accuracies_S[:, None]).astype(float))
        covered += found.low <= 0.5 <= found.high
    assert covered >= 90
