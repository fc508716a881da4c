"""Tasks over many items: results in order, failures in one line, and none begun after one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.shards.tasks import run_tasks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_storage_that_cannot_be_written_says_so_itself(tmp_path: Path) -> None:
    """From a task as from the driver, without a trace around it."""
    for places in ([tmp_path / "a" / "x"], [tmp_path / "b" / "x", tmp_path / "c" / "x"]):
        with pytest.raises(FileNotFoundError, match="No such file or directory") as caught:
            run_tasks(_write, [(place,) for place in places])
        assert "Traceback" not in str(caught.value)


def _write(place: Path) -> None:
    place.write_text("x")


def test_results_are_in_order_and_after_a_failure_no_task_begins(tmp_path: Path) -> None:
    items = [(number, tmp_path) for number in range(40)]
    assert run_tasks(_square, items, wrong=()) == [number**2 for number in range(40)]
    for begun in tmp_path.iterdir():
        begun.unlink()
    with pytest.raises(UserError, match=r"^3 is wrong$"):
        run_tasks(_square, items, wrong=(3, 4, 5))
    assert {3} <= {int(begun.name) for begun in tmp_path.iterdir()} < set(range(12))


def test_a_process_that_ends_again_and_again_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"^part 2 of 2: a process on it ended: \S"):
        run_tasks(_die, [(0, tmp_path), (1, tmp_path)])
    assert len(list(tmp_path.iterdir())) > 1


def _die(number: int, folder: Path) -> None:
    if number:
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _square(number: int, folder: Path, wrong: Sequence[int]) -> int:
    (folder / str(number)).touch()
    if number in wrong:
        # A later item may fail earlier.
        time.sleep(0.5 * (number == wrong[0]))
        raise UserError(f"{number} is wrong")
    return number**2
