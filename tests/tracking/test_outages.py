"""A real MLflow server that dies, hangs and comes back; a recorder inside a Ray actor."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.tracking import Delivery, History, Recorder, Run, deliver

from .server import SPEC, Fault, Line, Server, points, until

pytestmark = pytest.mark.slow


def test_a_server_killed_and_started_again_has_every_value_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(server.uri, tmp_path / "t")
    run_id = run.start(SPEC)
    assert run_id is not None
    recorder = Recorder(server.uri, tmp_path / "t", interval_s=0.5)
    expected = {}
    for step in range(1, 601):
        if step == 200:
            # In the middle of sending: what was under way may or may not have arrived.
            server.kill()
        if step == 400:
            server.start()
        expected[step] = 1 / step
        begin = time.monotonic()
        recorder.record(step, {"train/loss": 1 / step, "train/lr": 1e-4})
        assert time.monotonic() - begin < 1.0
        time.sleep(0.005)
    delivery = recorder.close(timeout_s=60)
    assert (delivery.unsent, delivery.lost) == (0, 0)
    assert points(server.uri, run_id, "train/loss") == expected
    assert len(points(server.uri, run_id, "train/lr")) == 600
    memory = points(server.uri, run_id, "system/system_memory_usage_megabytes")
    assert sorted(memory) == list(range(len(memory)))
    assert "does not take metrics" in caplog.text
    assert "takes metrics again" in caplog.text
    assert run.finish()


@pytest.mark.parametrize("fault", ["lost answer", "late arrival"])
def test_a_request_with_an_unknown_end_counts_once(server: Server, tmp_path: Path, fault: Fault) -> None:
    with Line(server.uri, fault) as line:
        run_id = Run(server.uri, tmp_path / "t").start(SPEC)
        assert run_id is not None
        recorder = Recorder(line.uri, tmp_path / "t", system_metrics=False)
        for step in range(40):
            recorder.record(step, {"a": float(step)})
        delivery = recorder.close(60)
        assert (delivery.unsent, line.faults) == (0, 1)
        # What the server has is not sent again.
        assert (delivery.sent < 40) == (fault == "lost answer")
        line.deliver_late()
    assert points(server.uri, run_id, "a") == {step: float(step) for step in range(40)}


def test_a_server_that_hangs_does_not_hold_up_the_end(server: Server, tmp_path: Path) -> None:
    run_id = Run(server.uri, tmp_path / "t").start(SPEC)
    assert run_id is not None
    server.signal(signal.SIGSTOP)
    recorder = Recorder(server.uri, tmp_path / "t", interval_s=0.2)
    recorder.record(1, {"a": 1.0})
    time.sleep(1.0)
    begin = time.monotonic()
    assert recorder.close(timeout_s=1.0).sent == 0
    assert time.monotonic() - begin < 3.5
    server.signal(signal.SIGCONT)
    assert deliver(server.uri, tmp_path / "t").unsent == 0
    assert points(server.uri, run_id, "a") == {1: 1.0}


_TRAINING = """
import sys, time
from crlft_ray.tracking import Recorder
recorder = Recorder(sys.argv[1], sys.argv[2], system_metrics=False)
for step in range(int(sys.argv[3]), 10**6):
    recorder.record(step, {"a": float(step), "b": 1.0})
    if step % 100 == 0:
        print(step, flush=True)
    time.sleep(0.001)
"""


def test_a_recorder_killed_again_and_again_leaves_one_continuous_curve(uri: str, tmp_path: Path) -> None:
    run_id = Run(uri, tmp_path / "t").start(SPEC)
    assert run_id is not None
    step = 0
    for _ in range(3):
        # As after a checkpoint: it goes on a while before the point where it died.
        command = [sys.executable, "-c", _TRAINING, uri, str(tmp_path / "t"), str(max(0, step - 250))]
        training = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert training.stdout is not None
        until(lambda step=step: len(points(uri, run_id, "a")) > step)
        while (line := training.stdout.readline()) and int(line) < step + 1000:
            pass
        step = int(line)
        os.kill(training.pid, signal.SIGKILL)
        training.wait()
    assert deliver(uri, tmp_path / "t").unsent == 0
    curve = points(uri, run_id, "a")
    assert curve == {step: float(step) for step in range(len(curve))}
    assert len(curve) > step
    assert len(points(uri, run_id, "b")) == len(curve)


def test_a_recorder_is_a_ray_actor_as_it_stands(uri: str, tmp_path: Path, ray_session: None) -> None:
    import ray

    run_id = Run(uri, tmp_path / "t").start(SPEC)
    assert run_id is not None
    actor: Any = ray.remote(num_cpus=0)(Recorder).remote(uri, str(tmp_path / "t"))
    for step in range(50):
        actor.record.remote(step, {"a": float(step)})
    history: History = ray.get(actor.history_since.remote())
    assert len(history.records) == 50
    assert ray.get(actor.latest.remote())["metrics"] == {"a": 49.0}
    delivery: Delivery = ray.get(actor.close.remote(30.0))
    assert delivery.unsent == 0
    assert pickle.loads(pickle.dumps(delivery)) == delivery
    assert len(points(uri, run_id, "a")) == 50
