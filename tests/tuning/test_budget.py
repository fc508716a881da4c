"""Where a study ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config.tune import Budget
from crlft_ray.tuning.budget import BudgetStopper, StopAsked
from crlft_ray.tuning.journal import TrialLog

STEPS = 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed, in a list of one."""
    now = [1000.0]
    monkeypatch.setattr("crlft_ray.tuning.budget.time.monotonic", lambda: now[0])
    return now


def stopper(file: Path, past: dict[str, TrialLog] | None = None, **budget: Any) -> BudgetStopper:
    return BudgetStopper(Budget(**budget), STEPS, past or {}, file, StopAsked())


def report(of: BudgetStopper, trial: str, step: int, **more: Any) -> None:
    """Each step has 100 tokens. No trial is ever stopped for itself."""
    assert (
        of(f"tune's id of {trial}", {"config": {"trial": trial}, "step": step, "tokens": 100 * step, **more}) is False
    )


def test_tokens_of_all_trials_count_once_each(tmp_path: Path) -> None:
    past = {"000": TrialLog("000", {}, "finished", tokens=1000), "001": TrialLog("001", {}, tokens=300)}
    made = stopper(tmp_path / "time.json", past, tokens=2000)
    report(made, "001", 2)  # It began again, from an earlier checkpoint.
    report(made, "002", 6)
    assert not made.stop_all()
    assert made.reason == ""
    report(made, "002", 7)
    assert made.stop_all()
    assert made.reason == "tune.budget.tokens: 2,000 tokens are used up"


def test_a_trial_that_has_made_its_last_step_is_waited_for(tmp_path: Path, clock: list[float]) -> None:
    made = stopper(tmp_path / "time.json", tokens=1000)
    report(made, "000", STEPS)
    assert not made.stop_all()
    report(made, "000", STEPS, finished=True)
    assert made.stop_all()

    made = stopper(tmp_path / "time.json", tokens=1000)
    report(made, "000", STEPS)
    clock[0] += 601
    assert made.stop_all()


def test_hours_are_those_of_all_starts(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "time.json"
    made = stopper(file, hours=1)
    clock[0] += 1800
    report(made, "000", 1)
    assert not made.stop_all()
    assert json.loads(file.read_text()) == {"seconds": 1800}

    clock[0] += 10_000  # The driver was dead.
    made = stopper(file, hours=1)
    clock[0] += 1799
    assert not made.stop_all()
    clock[0] += 1
    assert made.stop_all()
    assert made.reason == "tune.budget.hours: 1 hours are over"


def test_asked_to_stop(tmp_path: Path) -> None:
    asked = StopAsked()
    made = BudgetStopper(Budget(), STEPS, {}, tmp_path / "time.json", asked)
    report(made, "000", STEPS)
    assert not made.stop_all()
    asked.yes = True
    assert made.stop_all()
    assert made.reason == ""
