"""Chooses the trials' values: Optuna's samplers, fed with all that the study has found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from ray.tune.search import Searcher

from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.space import Domain

_STATES = {
    "finished": TrialState.COMPLETE,
    # The samplers know how to compare trials that came less far.
    "stopped early": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

_AT_RANDOM = 4
"""Trials before TPE begins to choose; Optuna's default of 10 is more than many studies of large models have."""


class StudySearcher(Searcher):  # type: ignore[misc]
    """A Tune searcher that first repeats the trials that were cut off, then asks Optuna for new ones.

    A trial's config for Tune is {"trial": name, "values": {config key: value}}.
    """

    def __init__(
        self,
        space: Mapping[str, Domain],
        kind: Literal["random", "grid", "tpe"],
        direction: Literal["min", "max"],
        seed: int,
        past: Sequence[TrialLog],
    ) -> None:
        super().__init__(metric="score", mode=direction)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = {key: _distribution(domain) for key, domain in space.items()}
        self._unfinished = [log for log in past if log.state == "running"]
        # Trials begin in another order than they were asked for, so that one with a lower number may be missing.
        self._count = max((int(log.trial) for log in past), default=-1) + 1
        self._study = optuna.create_study(
            direction="minimize" if direction == "min" else "maximize",
            # Not the same numbers again after a restart.
            sampler=_sampler(kind, seed + self._count),
        )
        for log in past:
            if log.state != "running":
                self._study.add_trial(self._frozen(log))
        if kind == "grid":
            done = [log.values for log in past]
            points = [dict(zip(space, point, strict=True)) for point in product(*(d.values for d in space.values()))]
            for point in points:
                if point not in done:
                    self._study.enqueue_trial(point)
        self._asked: dict[str, tuple[optuna.Trial | None, dict[str, Any]]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial's name and values."""
        if self._unfinished:
            log = self._unfinished.pop(0)
            self._asked[trial_id] = (None, log.values)
            return {"trial": log.trial, "values": log.values}
        asked = self._study.ask(self._distributions)
        self._asked[trial_id] = (asked, asked.params)
        self._count += 1
        return {"trial": f"{self._count - 1:03}", "values": asked.params}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna how it ended."""
        asked, values = self._asked.pop(trial_id)
        state = "failed" if error or not result or "score" not in result else "stopped early"
        if result and result.get("finished"):
            state = "finished"
        curve = [(int(result["step"]), float(result["score"]))] if result and "score" in result else []
        log = TrialLog("", values, state, curve)  # type: ignore[arg-type]
        if asked is None:
            self._study.add_trial(self._frozen(log))
            return
        for step, score in curve:
            asked.report(score, step)
        value = log.score if state == "finished" else None
        self._study.tell(asked, value, state=_STATES[state])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study begins from the journal."""

    def _frozen(self, log: TrialLog) -> optuna.trial.FrozenTrial:
        state = _STATES[log.state]
        return optuna.trial.create_trial(
            params=log.values,
            distributions=self._distributions,
            state=state,
            value=log.score if state is TrialState.COMPLETE else None,
            intermediate_values=dict(log.curve),
        )


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.kind in ("choice", "grid"):
        return CategoricalDistribution(domain.values)
    low, high = domain.values
    return FloatDistribution(low, high, log=domain.kind == "loguniform")


def _sampler(kind: Literal["random", "grid", "tpe"], seed: int) -> optuna.samplers.BaseSampler:
    if kind == "tpe":
        # Trials that run side by side are kept apart; with one at a time it changes nothing.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=_AT_RANDOM)
    # A grid's points are queued, and nothing is left to draw.
    return optuna.samplers.RandomSampler(seed=seed)
