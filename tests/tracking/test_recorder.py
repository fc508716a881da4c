from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from crlft_ray.errors import UserError
from crlft_ray.tracking import Delivery, Recorder, Run, deliver, read_records

from .server import SPEC, free_port, points, until


def _started(uri: str, folder: Path) -> str:
    run_id = Run(uri, folder).start(SPEC)
    assert run_id is not None
    return run_id


def test_metrics_arrive_in_mlflow(uri: str, tmp_path: Path) -> None:
    run_id = _started(uri, tmp_path / "t")
    recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
    for step in range(1, 701):
        recorder.record(step, {"train/loss": 1 / step, "train/loss/very (good)": 0.5, "train/lr": 1e-4})
    recorder.record(700, {"heldout/expert/as_expert": math.nan, "train/grad_norm": math.inf})
    assert recorder.run_id() == run_id
    assert recorder.latest()["step"] == 700
    assert recorder.latest()["metrics"]["train/loss"] == 1 / 700
    history = recorder.history_since()
    assert len(history.records) == 701
    assert recorder.history_since(history.position).records == []
    assert recorder.close() == Delivery(sent=2102, unsent=0, lost=0)
    assert recorder.close() == Delivery(sent=2102, unsent=0, lost=0)
    assert points(uri, run_id, "train/loss") == {step: 1 / step for step in range(1, 701)}
    assert math.isnan(points(uri, run_id, "heldout/expert/as_expert")[700])
    assert points(uri, run_id, "train/grad_norm")[700] > 1e300
    assert math.isinf(read_records(tmp_path / "t" / "metrics.jsonl")[-1].metrics["train/grad_norm"])


def test_a_database_that_is_away_at_the_start_gets_everything_later(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, away = tmp_path / "database", tmp_path / "away"
    folder.mkdir()
    (tmp_path / "mlflow.db").rename(folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run_id = _started(uri, tmp_path / "t")
    folder.rename(away)
    folder.write_text("no folder")
    recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
    recorder.record(1, {"a": 2.0})
    until(lambda: "does not take metrics" in caplog.text)
    folder.unlink()
    away.rename(folder)
    assert recorder.close() == Delivery(sent=1, unsent=0, lost=0)
    assert points(uri, run_id, "a") == {1: 2.0}


def test_repeated_steps_are_dropped_in_the_same_process_and_in_the_next(uri: str, tmp_path: Path) -> None:
    run_id = _started(uri, tmp_path / "t")
    for first, last in ((1, 60), (51, 80)):
        recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
        for step in range(first, last + 1):
            recorder.record(step, {"a": step})
            recorder.record(step, {"a": -1.0})
        recorder.close()
    assert points(uri, run_id, "a") == {step: step for step in range(1, 81)}


@pytest.mark.parametrize("gone", ["metrics.jsonl", "metrics.sent.json"])
def test_values_are_sent_once_even_if_the_spool_or_its_position_is_lost(uri: str, tmp_path: Path, gone: str) -> None:
    run_id = _started(uri, tmp_path / "t")
    for value, steps, new in ((1.0, 20, 20), (2.0, 30, 10)):
        recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
        for step in range(steps):
            recorder.record(step, {"a": value})
        assert recorder.close() == Delivery(sent=new, unsent=0, lost=0)
        (tmp_path / "t" / gone).unlink()
    assert points(uri, run_id, "a") == {step: 1.0 if step < 20 else 2.0 for step in range(30)}


def test_after_a_rewind_new_values_count_and_mlflow_has_no_step_twice(uri: str, tmp_path: Path) -> None:
    run_id = _started(uri, tmp_path / "t")
    recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
    for step in range(1, 11):
        recorder.record(step, {"a": 1.0})
    until(lambda: len(points(uri, run_id, "a")) == 10)
    recorder.rewind(5)
    for step in range(6, 16):
        recorder.record(step, {"a": 2.0})
    recorder.close()
    spooled = {record.step: record.metrics["a"] for record in read_records(tmp_path / "t" / "metrics.jsonl")}
    assert spooled == {step: 1.0 if step <= 5 else 2.0 for step in range(1, 16)}
    assert points(uri, run_id, "a") == {step: 1.0 if step <= 10 else 2.0 for step in range(1, 16)}


def test_a_server_that_stays_away_costs_no_time_and_the_next_recorder_delivers(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = _started(uri, tmp_path / "t")
    away = f"http://127.0.0.1:{free_port()}"
    with caplog.at_level(logging.WARNING):
        recorder = Recorder(away, tmp_path / "t", system_metrics=False)
        begin = time.monotonic()
        for step in range(100):
            recorder.record(step, {"a": 1.0, "b": 2.0})
        assert time.monotonic() - begin < 1.0
        begin = time.monotonic()
        assert recorder.close(timeout_s=2.0) == Delivery(sent=0, unsent=200, lost=0)
        assert time.monotonic() - begin < 3.0
    assert caplog.text.count("does not take metrics") == 1
    assert f"lacks 200 value(s); they are kept in {tmp_path / 't' / 'metrics.jsonl'}" in caplog.text
    assert deliver(uri, tmp_path / "t") == Delivery(sent=200, unsent=0, lost=0)
    assert len(points(uri, run_id, "a")) == 100


def test_a_run_that_could_not_be_opened_at_the_start_is_opened_by_the_recorder(uri: str, tmp_path: Path) -> None:
    assert Run(f"http://127.0.0.1:{free_port()}", tmp_path / "t").start(SPEC) is None
    recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
    recorder.record(1, {"a": 1.0})
    until(lambda: recorder.run_id() is not None)
    assert recorder.close() == Delivery(sent=1, unsent=0, lost=0)
    run_id = recorder.run_id()
    assert run_id is not None
    assert points(uri, run_id, "a") == {1: 1.0}


def test_what_is_no_number_is_reported_as_lost(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_id = _started(uri, tmp_path / "t")
    recorder = Recorder(uri, tmp_path / "t", system_metrics=False)
    recorder.record(1, {"a": "much", "b": None, "c": 3})  # type: ignore[dict-item]
    assert recorder.close() == Delivery(sent=1, unsent=0, lost=2)
    recorder.record(2, {"c": 4.0})
    assert "step 1: a is no number" in caplog.text
    assert "step 2 was recorded after the end" in caplog.text
    assert points(uri, run_id, "c") == {1: 3.0}


def test_a_folder_in_which_no_run_was_started_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run was started"):
        Recorder(uri, tmp_path / "t")


def test_system_metrics_go_on_where_they_ended(uri: str, tmp_path: Path) -> None:
    run_id = _started(uri, tmp_path / "t")
    for _ in range(2):
        recorder = Recorder(uri, tmp_path / "t", interval_s=0.2)
        path = tmp_path / "t" / "metrics.jsonl"
        before = path.read_bytes().count(b"\n")
        recorder.record(1, {"a": 1.0})
        until(lambda path=path, before=before: path.read_bytes().count(b"\n") >= before + 4)
        assert recorder.close().unsent == 0
    memory = points(uri, run_id, "system/system_memory_usage_megabytes")
    assert len(memory) >= 6
    assert list(memory) == list(range(len(memory)))
    assert [record.step for record in read_records(path)] == [1]


_FULL_DISK = """
import resource, sys
from crlft_ray.tracking import Recorder
uri, folder = sys.argv[1:]
recorder = Recorder(f"http://127.0.0.1:1", folder, system_metrics=False)
soft = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, soft[1]))
for step in range(100):
    recorder.record(step, {"a": float(step)})
if uri == "full":
    print(recorder.close(0.1))
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    recorder.record(100, {"a": 100.0})
    print(recorder.close(0.1))
"""


@pytest.mark.parametrize("disk", ["full", "free again"])
def test_a_full_disk_stops_nothing_and_its_loss_is_reported(uri: str, tmp_path: Path, disk: str) -> None:
    _started(uri, tmp_path / "t")
    command = [sys.executable, "-c", _FULL_DISK, disk, str(tmp_path / "t")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = [record.step for record in read_records(tmp_path / "t" / "metrics.jsonl")]
    assert done.stderr.count("wait in memory") == 1
    if disk == "full":
        assert done.stdout.strip() == f"Delivery(sent=0, unsent={len(kept)}, lost={100 - len(kept)})"
        assert f"{100 - len(kept)} value(s) are lost" in done.stderr
        assert 0 < len(kept) < 100
    else:
        assert done.stdout.strip() == "Delivery(sent=0, unsent=101, lost=0)"
    assert kept == list(range(len(kept)))


def test_a_run_that_two_open_at_once_is_one(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver and the recorder, both of which may come first."""
    create = MlflowClient.create_run

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.5)
        return create(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", slowly)
    Run(uri, tmp_path / "t").describe(SPEC)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: Run(uri, tmp_path / "t").begin(), range(4)))
    client = MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == SPEC.experiment]
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id])] == list(found)
