"""One owner of an output folder, and a dead one's lease stops nobody."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from crlft_ray import lease
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.lease import Lease, owned
from crlft_ray.storage import Place
from tests.faults import runs
from tests.faults.conftest import NewRun


def test_a_stage_inside_another_shares_it(tmp_path: Path) -> None:
    with owned(str(tmp_path)), owned(str(tmp_path)):
        assert (tmp_path / "owner.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_living_owner_on_this_machine_refuses(tmp_path: Path) -> None:
    with owned(str(tmp_path)), pytest.raises(UserError, match="is being written by another run"):
        Lease(Place.of(tmp_path)).take()


def _hold(folder: str, seconds: float, outcome: Any) -> None:
    try:
        with owned(folder):
            outcome.put("owned")
            time.sleep(seconds)
    except UserError:
        outcome.put("refused")


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcome = context.Queue()
    processes = [context.Process(target=_hold, args=(str(tmp_path), 6.0, outcome)) for _ in range(4)]
    for process in processes:
        process.start()
    found = sorted(outcome.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert found == ["owned", "refused", "refused", "refused"]


def test_a_killed_owner_stops_nobody(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcome = context.Queue()
    process = context.Process(target=_hold, args=(str(tmp_path), 60.0, outcome))
    process.start()
    assert outcome.get(timeout=60) == "owned"
    process.kill()
    process.join()
    began = time.monotonic()
    with owned(str(tmp_path)):
        assert time.monotonic() - began < 3


def _elsewhere(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "owner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "another-host", **changes}))


def test_an_owner_elsewhere_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks of other machines are not trusted: what counts is whether it beats."""
    monkeypatch.setattr(lease, "_SILENT_S", 2.0)
    first = Lease(Place.of(tmp_path))
    first.take()
    first._done.set()
    _elsewhere(tmp_path, {})
    began = time.monotonic()
    with owned(str(tmp_path)):
        assert time.monotonic() - began >= 2


HOLD = """
import sys, time
from crlft_ray.lease import owned
with owned(sys.argv[1]):
    print("owned", flush=True)
    time.sleep(60)
"""


@contextmanager
def _held_by(*command: str) -> Iterator[None]:
    """While a process that this command starts holds a lease."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "owned\n"
            yield
        finally:
            process.kill()


def test_a_living_owner_on_another_host_refuses(tmp_path: Path) -> None:
    script = f"hostname another-host && exec {sys.executable} -c '{HOLD}' {tmp_path}"
    # A name space of its own for the host's name makes it another host.
    with (
        _held_by("unshare", "--uts", "sh", "-c", script),
        pytest.raises(UserError, match="on another-host"),
    ):
        Lease(Place.of(tmp_path)).take()


def test_a_living_owner_in_a_container_of_this_host_refuses(tmp_path: Path) -> None:
    """The host's name and its boot are this process's own, but process numbers are not."""
    container = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with _held_by(*container, sys.executable, "-c", HOLD, str(tmp_path)):
        owner = json.loads((tmp_path / "owner.json").read_text())
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), 1)
        with pytest.raises(UserError, match="is being written by another run"):
            Lease(Place.of(tmp_path)).take()


def test_an_owner_of_an_earlier_version_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say where its process number holds, and its start is a time of day."""
    monkeypatch.setattr(lease, "_BEAT_S", 0.5)
    with owned(str(tmp_path)):
        path = tmp_path / "owner.json"
        owner = {**json.loads(path.read_text()), "started": "1732820000.5"}
        del owner["pid_namespace"]
        path.write_text(json.dumps(owner))
        with pytest.raises(UserError, match="is being written by another run"):
            Lease(Place.of(tmp_path)).take()


def test_a_clock_that_is_put_right_kills_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with owned(str(tmp_path)):
        right = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: right(process) + 3)
        with pytest.raises(UserError, match="is being written by another run"):
            Lease(Place.of(tmp_path)).take()


def test_a_number_given_to_another_process_is_no_owner(tmp_path: Path) -> None:
    """The name of the other one looks like the fields behind it."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(shutil.which("sleep") or "sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert lease._start_of(process.pid) not in (None, lease._start_of(os.getpid()))
            owner = {**_owner(tmp_path), "pid": process.pid}
            began = time.monotonic()
            (tmp_path / "owner.json").write_text(json.dumps(owner))
            with owned(str(tmp_path)):
                assert time.monotonic() - began < 3
        finally:
            process.kill()


def _owner(folder: Path) -> dict[str, Any]:
    """What this process writes down as an owner."""
    with owned(str(folder)):
        return dict(json.loads((folder / "owner.json").read_text()))


def test_whoever_lost_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_BEAT_S", 0.1)
    with owned(str(tmp_path)) as held:
        held.check()
        _elsewhere(tmp_path, {"id": "a run on another cluster"})
        time.sleep(1)
        with pytest.raises(TrainingFailed, match="taken over"):
            held.check()


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.long
def test_two_trainings_at_once(new_run: NewRun) -> None:
    config, _ = new_run()
    with runs.started(config) as first, runs.started(config) as second:
        runs.wait_for(lambda: first.poll() is not None or second.poll() is not None, 60)
        loser, winner = (first, second) if first.poll() is not None else (second, first)
        assert loser.returncode == 2
        said = loser.log.read_text()  # type: ignore[attr-defined]
        assert "is being written by another run" in said
        assert winner.wait(120) == 0, winner.log.read_text()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.long
def test_a_training_whose_folder_is_taken_over_ends_at_once(new_run: NewRun) -> None:
    config, output = new_run(epochs=2000)
    with runs.started(config) as process:
        runs.wait_for(lambda: runs.steps_seen(output) >= 2)
        _elsewhere(output, {"id": "a run on another cluster"})
        assert process.wait(60) == 1, process.log.read_text()  # type: ignore[attr-defined]
        said = process.log.read_text()  # type: ignore[attr-defined]
    assert "taken over" in said
    assert "Traceback" not in said
