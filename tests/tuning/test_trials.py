"""Trials that fail once, and a study that is told to stop, with Ray Tune and the journal and nothing to train."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config.tune import Budget, Tune
from crlft_ray.errors import Stopped
from crlft_ray.tuning.journal import Journal, State, TrialLog
from crlft_ray.tuning.space import Domain
from crlft_ray.tuning.trials import Search, run_trials
from crlft_ray.tuning.watcher import Watcher

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

KEY = "train.seed"
STEPS = 3


def _begun(folder: Path, asked: dict[str, Any]) -> int:
    """How often the trial has begun, with this time."""
    file = folder / asked["trial"]
    with file.open("a") as opened:
        opened.write("begun\n")
    return len(file.read_text().splitlines())


def _last(asked: dict[str, Any]) -> dict[str, Any]:
    return {"finished": True, "score": float(asked["values"][KEY]), "step": STEPS, "tokens": STEPS, "seconds": 1.0}


def _fails_once(asked: dict[str, Any], job: Path) -> dict[str, Any]:
    """The first trial does."""
    if _begun(job, asked) == 1 and asked["values"][KEY] == 0:
        raise RuntimeError("a node was lost")
    return _last(asked)


def _waits_the_first_time(asked: dict[str, Any], job: Path) -> dict[str, Any]:
    """The second trial does, after its first step, for as long as nobody stops it."""
    from ray import tune

    if _begun(job, asked) == 1 and asked["values"][KEY] == 1:
        while True:
            tune.report({"score": 0.5, "step": 1, "tokens": 1})
            threading.Event().wait(0.2)
    return _last(asked)


class _Study:
    """Two trials, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.begun = folder / "begun"
        self.begun.mkdir()
        self._folder = folder
        self.file = folder / "trials.jsonl"
        self.ended: list[tuple[str, State]] = []

    def run(self, trainable: Any) -> list[TrialLog]:
        tune = Tune(searcher="grid", scheduler="none", budget=Budget(trials=2))
        search = Search(tune, {KEY: Domain("grid", (0, 1))}, seed=0, first=1, steps=STEPS)

        def ended(trial: str, values: dict[str, Any], state: State) -> None:
            self.ended.append((trial, state))

        return run_trials(trainable, self.begun, search, self._folder, lambda journal: Watcher(journal, "loss", ended))

    def times_begun(self) -> dict[str, int]:
        return {file.name: len(file.read_text().splitlines()) for file in sorted(self.begun.iterdir())}


def test_a_trial_that_fails_once_is_run_again(tmp_path: Path) -> None:
    study = _Study(tmp_path)
    logs = study.run(_fails_once)
    assert [(log.trial, log.state, log.error, log.score) for log in logs] == [
        ("000", "finished", "", 0.0),
        ("001", "finished", "", 1.0),
    ]
    assert study.times_begun() == {"000": 2, "001": 1}
    assert study.ended == [("000", "finished"), ("001", "finished")]


def test_a_study_that_is_told_to_stop_goes_on_later(tmp_path: Path) -> None:
    """The trial that was cut off is not taken for one that was stopped early: nothing of it is removed."""
    study = _Study(tmp_path)
    watching = threading.Thread(target=_stop_at_second, args=(study,), daemon=True)
    watching.start()
    with pytest.raises(Stopped):
        study.run(_waits_the_first_time)
    watching.join(1)
    assert [(log.state, log.step) for log in Journal(study.file).trials().values()] == [
        ("finished", STEPS),
        ("running", 1),
    ]
    assert study.ended == [("000", "finished")]
    logs = study.run(_waits_the_first_time)
    assert [(log.state, log.score) for log in logs] == [("finished", 0.0), ("finished", 1.0)]
    assert study.times_begun() == {"000": 1, "001": 2}
    assert study.ended == [("000", "finished"), ("001", "finished")]


def _stop_at_second(study: _Study) -> None:
    """Sends SIGTERM when the second trial has reported; the study's journal is only read."""
    while not (study.file.exists() and '"event": "reported", "trial": "001"' in study.file.read_text()):
        threading.Event().wait(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
