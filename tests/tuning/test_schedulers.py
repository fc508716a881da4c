"""Early stopping, before and after a restart."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from ray.tune.schedulers import TrialScheduler

from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.schedulers import scheduler_of

FINISHED = {
    f"{n:03}": TrialLog(f"{n:03}", {}, "finished", [(step, loss - step / 100) for step in range(1, 10)])
    for n, loss in enumerate((1.0, 1.1, 1.2, 1.3))
}


class _Trial:
    """Tune's id of a trial is not the study's name for it."""

    def __init__(self, name: str) -> None:
        self.trial_id = f"tune's {name}"
        self.config = {"trial": name}


_DONE = 10
"""What `_steps_of` gives for a trial that was not stopped."""


def _steps_of(scheduler: TrialScheduler, name: str, loss: float) -> int:
    """The step at which a trial of a constant loss is stopped."""
    trial: Any = _Trial(name)
    scheduler.on_trial_add(None, trial)
    for step in range(1, 10):
        if scheduler.on_trial_result(None, trial, {"step": step, "score": loss}) == TrialScheduler.STOP:
            return step
    scheduler.on_trial_complete(None, trial, {"step": 9, "score": loss})
    return _DONE


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_bad_trial_is_stopped_and_a_good_one_is_not(kind: Literal["asha", "median"]) -> None:
    """Also by what only an earlier start of the study has seen."""
    scheduler = scheduler_of(kind, first=1, steps=9, mode="min", past=FINISHED)
    assert _steps_of(scheduler, "bad", 2.0) < 9
    assert _steps_of(scheduler, "good", 0.5) == _DONE


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_without_a_past_the_first_one_goes_on(kind: Literal["asha", "median"]) -> None:
    assert _steps_of(scheduler_of(kind, first=1, steps=9, mode="min", past={}), "bad", 2.0) == _DONE


def test_no_scheduler_stops_nothing() -> None:
    assert _steps_of(scheduler_of("none", first=1, steps=9, mode="min", past=FINISHED), "bad", 9.0) == _DONE


def test_the_direction_counts() -> None:
    scheduler = scheduler_of("asha", first=1, steps=9, mode="max", past=FINISHED)
    assert _steps_of(scheduler, "low", 0.5) < 9
    assert _steps_of(scheduler, "high", 2.0) == _DONE


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_whoever_came_to_the_last_step_may_write_its_export(kind: Literal["asha", "median"]) -> None:
    scheduler = scheduler_of(kind, first=1, steps=9, mode="min", past=FINISHED)
    late: Any = _Trial("late")
    scheduler.on_trial_add(None, late)
    # The 9th step would be ASHA's third rung.
    assert scheduler.on_trial_result(None, late, {"step": 9, "score": 5.0}) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_trial_of_fewer_steps_than_the_first_judgement_is_not_stopped(kind: Literal["asha", "median"]) -> None:
    assert _steps_of(scheduler_of(kind, first=9, steps=9, mode="min", past=FINISHED), "bad", 9.0) == _DONE


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_trials_are_compared_after_the_same_share_of_their_steps(kind: Literal["asha", "median"]) -> None:
    """One of 90 steps is judged at a ninth of them, and never before."""
    scheduler = scheduler_of(kind, first=1, steps=9, mode="min", past=FINISHED)
    long: Any = _Trial("long")
    scheduler.on_trial_add(None, long)
    for step, verdict in ((5, TrialScheduler.CONTINUE), (10, TrialScheduler.STOP)):
        assert scheduler.on_trial_result(None, long, {"step": step, "steps": 90, "score": 2.0}) == verdict


def test_a_trial_that_was_cut_off_is_not_judged_again_where_it_had_passed() -> None:
    """It was the first at the rung; what the others found later does not count against it."""
    cut_off = TrialLog("cut off", {}, "running", [(step, 1.9) for step in range(1, 5)])
    for past, stopped_at in (({**FINISHED, "cut off": cut_off}, 9), (FINISHED, 1)):
        scheduler = scheduler_of("asha", first=1, steps=9, mode="min", past=past)
        assert _steps_of(scheduler, "cut off", 1.9) == (_DONE if stopped_at == 9 else stopped_at)
