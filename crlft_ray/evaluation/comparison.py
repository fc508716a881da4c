"""Two models on the same questions: a paired, stratified permutation test and an interval of the difference.

Tasks count equally, however many questions they have. Answers to questions on one passage hang together, so they are
permuted, and resampled, together: a group is the unit of both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer

_AT_ONCE = 1_000
"""Permutations in memory at a time."""


@dataclass(frozen=True)
class Comparison:
    """How much better the first model is than the second."""

    difference: float
    """Mean over the tasks of the first model's score minus the second's."""
    low: float
    high: float
    """95 % bootstrap interval over the groups."""
    p_value: float
    """One-sided: how often a difference at least as large comes about where the models' names mean nothing."""
    questions: int
    left_out: int
    """Questions that were not compared, because they occur in the training data."""
    only_first_right: int
    only_second_right: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class OtherQuestions(UserError):  # noqa: N818
    """The two models were not asked the same."""


def compare(
    first: Sequence[Answer],
    second: Sequence[Answer],
    *,
    left_out: Collection[tuple[str, str]] = (),
    permutations: int = 20_000,
    seed: int = 0,
) -> Comparison:
    """Compares two models' answers to one suite.

    Args:
        left_out: (task, question) of questions that do not count.
        permutations: of the test; the smallest p-value is 1 / (permutations + 1).
        seed: of permutations and resamples; the same answers always give the same numbers.

    Raises:
        OtherQuestions: they are not answers to the same questions.
    """
    pairs = _paired(first, second)
    kept = [pair for pair in pairs if (pair[0].task, pair[0].question) not in left_out]
    if not kept:
        raise UserError("no question is left to compare: all of them occur in the training data")
    differences_KT, counts_KT = _by_group_and_task(kept)
    sizes_T = counts_KT.sum(0)
    # What each group adds to the mean over the tasks of the tasks' mean differences.
    shares_K = (differences_KT / sizes_T).sum(1) / len(sizes_T)
    rng = np.random.default_rng(seed)
    low, high = _interval(differences_KT, counts_KT, rng)
    return Comparison(
        difference=float(shares_K.sum()),
        low=low,
        high=high,
        p_value=_p_value(shares_K, permutations, rng),
        questions=len(kept),
        left_out=len(pairs) - len(kept),
        only_first_right=sum(one.value > two.value for one, two in kept),
        only_second_right=sum(one.value < two.value for one, two in kept),
    )


def _paired(first: Sequence[Answer], second: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    ours, theirs = ({(answer.task, answer.question): answer for answer in answers} for answers in (first, second))
    if ours.keys() != theirs.keys() or not ours:
        missing, extra = len(theirs.keys() - ours.keys()), len(ours.keys() - theirs.keys())
        raise OtherQuestions(
            f"these models were not asked the same questions: the first was asked {len(ours)}, the second "
            f"{len(theirs)}; {extra} only the first, {missing} only the second. Evaluate both on the same questions"
        )
    if any(answer.gold != theirs[key].gold for key, answer in ours.items()):
        raise OtherQuestions("these models were asked the same questions with other right answers; evaluate both anew")
    return [(answer, theirs[key]) for key, answer in ours.items()]


def _by_group_and_task(
    pairs: Sequence[tuple[Answer, Answer]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum of the differences, and number of questions, of K groups in T tasks."""
    tasks = {task: number for number, task in enumerate(dict.fromkeys(one.task for one, _ in pairs))}
    groups = {group: number for number, group in enumerate(dict.fromkeys(one.group for one, _ in pairs))}
    differences_KT = np.zeros((len(groups), len(tasks)))
    counts_KT = np.zeros_like(differences_KT)
    for one, two in pairs:
        place = groups[one.group], tasks[one.task]
        differences_KT[place] += one.value - two.value
        counts_KT[place] += 1
    return differences_KT, counts_KT


def _p_value(shares_K: npt.NDArray[np.float64], permutations: int, rng: np.random.Generator) -> float:
    """Exchanging the models' answers within a group turns the sign of what it adds."""
    observed = shares_K.sum() - 1e-12  # equal sums, in another order, differ in their last bits
    as_large = 0
    for first in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - first)
        signs_PK = rng.integers(0, 2, (count, len(shares_K)), dtype=np.int8) * 2.0 - 1.0
        as_large += int((signs_PK @ shares_K >= observed).sum())
    return (as_large + 1) / (permutations + 1)


def _interval(
    differences_KT: npt.NDArray[np.float64],
    counts_KT: npt.NDArray[np.float64],
    rng: np.random.Generator,
    resamples: int = 2_000,
) -> tuple[float, float]:
    groups = len(differences_KT)
    drawn_BK = rng.multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float64)
    with np.errstate(invalid="ignore"):
        # A task that no drawn group belongs to says nothing in that resample.
        means_B = np.nanmean((drawn_BK @ differences_KT) / (drawn_BK @ counts_KT), 1)
    low, high = np.nanquantile(means_B, [0.025, 0.975])
    return float(low), float(high)
