"""The gate's decision: pure, from answers alone.

A model becomes the champion if it beats its base by a paired, stratified permutation test (one-sided, at `level`) on
the gate half of a suite's questions, and its score there is not below the champion's. Questions that occur in its
training data do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.comparison import Comparison, compare
from crlft_ray.evaluation.contamination import Key


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why."""

    promoted: bool
    reason: str
    versus_base: Comparison | None
    versus_champion: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def decide(
    candidate: Sequence[Answer],
    base: Sequence[Answer],
    champion: Sequence[Answer] | None,
    *,
    occurring: Collection[Key] = (),
    level: float = 0.05,
) -> Decision:
    """Whether a candidate may become the champion.

    Args:
        candidate, base, champion: answers to the same questions; None where there is no champion yet.
        occurring: questions that occur in the candidate's training data.
        level: largest p-value at which the candidate counts as better than its base.

    Returns:
        the decision; a comparison that cannot be made is a no with its reason.
    """
    left_out = set(occurring)
    if not candidate or not base:
        return Decision(False, f"there are no scores of {'the base model' if candidate else 'the model'}", None, None)
    try:
        versus_base = compare(candidate, base, left_out=left_out)
    except UserError as error:
        return Decision(False, f"it cannot be compared with its base: {error}", None, None)
    counted = f" ({versus_base.left_out} questions that occur in its training data do not count)" if left_out else ""
    if versus_base.p_value > level or versus_base.difference <= 0:
        reason = f"it does not beat its base: {_words(versus_base)}, above the level of {level:g}{counted}"
        return Decision(False, reason, versus_base, None)
    better = f"it beats its base: {_words(versus_base)}{counted}"
    if champion is None:
        return Decision(True, f"{better}; there was no champion", versus_base, None)
    try:
        versus_champion = compare(candidate, champion, left_out=left_out)
    except UserError as error:
        return Decision(False, f"{better}, but it cannot be compared with the champion: {error}", versus_base, None)
    if versus_champion.difference < 0:
        reason = f"{better}, but it is below the champion: {_words(versus_champion)}"
        return Decision(False, reason, versus_base, versus_champion)
    reason = f"{better}, and it is not below the champion: {_words(versus_champion)}"
    return Decision(True, reason, versus_base, versus_champion)


def _words(found: Comparison) -> str:
    interval = f"[{found.low:+.4f} to {found.high:+.4f}]"
    return f"{found.difference:+.4f} {interval} on {found.questions} questions, p = {found.p_value:.4f}"
