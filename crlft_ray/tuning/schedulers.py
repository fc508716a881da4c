"""Early stopping that goes on after a restart: Tune does not keep what its schedulers have seen, the journal does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from crlft_ray.tuning.journal import TrialLog

REDUCTION = 3
"""ASHA: of the trials that have come to a rung, the best third goes on."""
_MEDIAN_SAMPLES = 3
"""Median rule: trials that must have come as far before one is judged."""


def scheduler_of(
    kind: Literal["none", "asha", "median"], *, first: int, steps: int, mode: str, past: dict[str, TrialLog]
) -> TrialScheduler:
    """The scheduler of a study.

    Args:
        kind: as `tune.scheduler`.
        first: step before which no trial is stopped.
        steps: that a whole trial of the study's own config has.
        mode: "min" or "max".
        past: trials of the study's earlier starts.
    """
    if kind == "none" or first >= steps:
        return FIFOScheduler()
    if kind == "asha":
        made: TrialScheduler = _Asha(
            {name: log for name, log in past.items() if log.state == "running"},
            steps,
            time_attr="step",
            metric="score",
            mode=mode,
            max_t=steps,
            grace_period=first,
            reduction_factor=REDUCTION,
            stop_last_trials=False,
        )
    else:
        made = _Median(
            steps,
            time_attr="step",
            metric="score",
            mode=mode,
            grace_period=first,
            min_samples_required=_MEDIAN_SAMPLES,
            # A trial is never paused to let others come as far: it would have to start again.
            min_time_slice=float("inf"),
            hard_stop=True,
        )
    _replay(made, past)
    return made


class _Sparing:
    """Lets a trial that came to its last step write its export; for the others its final report counts.

    Trials are compared after the same share of their steps, of which each has as many as its values say.
    """

    def __init__(self, steps: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._steps = steps

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """As the rule says, but at the end."""
        shared = self._shared(result)
        if shared["step"] >= self._steps:
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(controller, trial, shared))  # type: ignore[misc]

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """As the rule says."""
        super().on_trial_complete(controller, trial, self._shared(result))  # type: ignore[misc]

    def _shared(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result with its step on the scale of the study's own steps."""
        return {**result, "step": result["step"] * self._steps / result.get("steps", self._steps)}


class _Asha(_Sparing, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Successive halving."""

    def __init__(self, running: dict[str, TrialLog], steps: int, **settings: Any) -> None:
        super().__init__(steps, **settings)
        self._running = running

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """A trial that was cut off is not judged again where it had been let pass."""
        super().on_trial_add(controller, trial)
        if log := self._running.get(trial.config["trial"]):
            for result in _results(log):
                self.on_trial_result(controller, trial, result)


class _Median(_Sparing, MedianStoppingRule):  # type: ignore[misc]
    """The median rule."""


@dataclass(frozen=True)
class _Past:
    """What a scheduler needs to know of a trial that is over."""

    trial_id: str

    @property
    def config(self) -> dict[str, str]:
        """As Tune's trials have it."""
        return {"trial": self.trial_id}


def _replay(scheduler: TrialScheduler, past: dict[str, TrialLog]) -> None:
    # The median rule would judge a result anew, and does not take another one of a trial that it stops.
    take = scheduler.on_trial_complete if isinstance(scheduler, MedianStoppingRule) else scheduler.on_trial_result
    for log in past.values():
        # One that still runs will report its steps again, because its process begins anew.
        if log.state == "running":
            continue
        trial: Any = _Past(log.trial)
        scheduler.on_trial_add(None, trial)
        for result in _results(log):
            take(None, trial, result)
        scheduler.on_trial_remove(None, trial)


def _results(log: TrialLog) -> list[dict[str, Any]]:
    """What a trial has reported."""
    steps = {"steps": log.last["steps"]} if "steps" in log.last else {}
    return [{"step": step, "score": score, **steps} for step, score in log.curve]
