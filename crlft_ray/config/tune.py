"""`tune`: a study over class weights, or anything else that is not in the shards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crlft_ray.config.section import Section


class Budget(Section):
    """Where a study ends, whatever comes first."""

    trials: int = Field(8, ge=1)
    hours: float | None = Field(None, gt=0)
    """Time that the study has run, over all its starts."""
    tokens: int | None = Field(None, ge=1)
    """Slots that all trials together have trained on."""


class Tune(Section):
    """A study: what is searched, how, and for how long."""

    space: dict[str, str] = Field(default_factory=dict)
    """Config key → loguniform(low, high), uniform(low, high), choice(a, b, …) or grid(a, b, …)."""
    searcher: Literal["random", "grid", "tpe"] = "tpe"
    """How trials are chosen; tpe is Optuna's."""
    scheduler: Literal["none", "asha", "median"] = "asha"
    """How bad trials are stopped early."""
    metric: str | None = None
    """A metric of the training; null: the held-out loss of `infer_as` under its own condition."""
    direction: Literal["min", "max"] = "min"
    budget: Budget = Budget()
    at_once: int = Field(1, ge=1)
    """Trials that run side by side, each with the workers of `train`."""
    finalists: int = Field(2, ge=1)
    """Best trials that are scored on the `select` half of `evaluate.suites`; their exports are kept."""
