"""The driver of a study is killed in the middle; the command, given again, goes on with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from crlft_ray.tuning.journal import Journal, TrialLog
from tests.faults import runs
from tests.runs import FinishedRun, write_config
from tests.tracking.server import points

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]

KEY = "classes.mixed.weight"
WEIGHTS = (0.1, 0.3)
LEARNED = "heldout/expert/as_expert"


def _study(finished: FinishedRun, folder: Path) -> Path:
    raw = finished.config.model_dump(mode="json", by_alias=True)
    raw |= {
        "output": str(folder / "out"),
        "data": {**raw["data"], "shards": str(finished.output / "shards")},
        "train": {**raw["train"], "workers": 1, "epochs": 20, "checkpoint_every": 5},
        "evaluate": {"suites": [], "every": 20},
        "tune": {
            "space": {KEY: f"grid({', '.join(map(str, WEIGHTS))})"}, "searcher": "grid", "scheduler": "none",
            "budget": {"trials": len(WEIGHTS)},
        },
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    return write_config(folder / "study.yaml", raw)


@contextmanager
def _tuning(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    command = [sys.executable, "-c", "from crlft_ray.cli import main; main()", "tune", str(config)]
    log = config.with_suffix(f".{len(list(config.parent.glob('*.log')))}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield process, log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_killed_study(finished: FinishedRun, tmp_path: Path) -> None:
    config = _study(finished, tmp_path / "killed")
    output = tmp_path / "killed" / "out"
    journal = output / "tracking" / "study" / "trials.jsonl"
    with _tuning(config) as (process, log):
        # The second trial runs, and has a checkpoint.
        runs.wait_for(
            lambda: any(runs.steps_seen(output / "trials" / name) >= 30 for name in _started(journal)[1:]), 400
        )
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {name: (found.state, found.curve) for name, found in Journal(journal).trials().items()}
    assert [state for state, _ in before.values()] == ["finished", "running"], log.read_text()
    with _tuning(config) as (process, log):
        assert process.wait(400) == 0, log.read_text()
    result = json.loads((output / "study_result.json").read_text())
    after = Journal(journal).trials()
    first, second = after
    assert [found.state for found in after.values()] == ["finished", "finished"]
    assert after[first].curve == before[first][1]
    assert json.loads((output / "trials" / first / "result.json").read_text())["first_step"] == 0
    assert json.loads((output / "trials" / second / "result.json").read_text())["first_step"] >= 30
    _one_run_a_trial(result, after)
    # An uninterrupted study comes to the same.
    with _tuning(_study(finished, tmp_path / "whole")) as (process, log):
        assert process.wait(400) == 0, log.read_text()
    whole = Journal(tmp_path / "whole" / "out" / "tracking" / "study" / "trials.jsonl").trials()
    assert [found.curve for found in whole.values()] == [found.curve for found in after.values()]


def _started(journal: Path) -> list[str]:
    """Names of the trials in the order in which they began; another process is writing the file."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry["trial"] for entry in entries if entry["event"] == "started"]


def _one_run_a_trial(result: dict[str, Any], trials: dict[str, TrialLog]) -> None:
    client = MlflowClient(result["tracking_uri"])
    parent = client.get_run(result["mlflow_run_id"])
    children = client.search_runs(
        [parent.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(float(child.data.params[KEY]) for child in children) == list(WEIGHTS)
    curves = [points(result["tracking_uri"], child.info.run_id, LEARNED) for child in children]
    assert sorted(curve.items() for curve in curves) == sorted(dict(found.curve).items() for found in trials.values())
