"""Folders of passing files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crlft_ray.scratch import Scratch, scratch_folder

OWNER = """
from crlft_ray.scratch import Scratch

scratch = Scratch()
(scratch.path / "large").write_text("x")
print(scratch.path, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def temporary_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def _owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with a folder."""
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_there_for_its_block(temporary_space: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == temporary_space
    assert list(temporary_space.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(temporary_space: Path) -> None:
    with _owner() as (living, kept), _owner() as (dying, left):
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        assert (left / "large").exists()
        scratch = Scratch()
        assert not left.exists()
        assert (kept / "large").exists()
        assert living.poll() is None
        scratch.remove()
        scratch.remove()
    assert list(temporary_space.iterdir()) == [kept]


def test_a_folder_that_is_being_made_is_let_alone(temporary_space: Path) -> None:
    """It has no lock yet; after an hour nobody will give it one."""
    begun, old = temporary_space / "crlft-scratch-begun", temporary_space / "crlft-scratch-old"
    begun.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    other = temporary_space / "another program's"
    other.mkdir()
    with scratch_folder():
        assert begun.exists()
        assert not old.exists()
        assert other.exists()


def test_beside_what_it_is_to_become(temporary_space: Path) -> None:
    """What a killed process left there is removed, too; what another machine left is its own affair."""
    models = temporary_space / "models"
    models.mkdir()
    old, foreign = models / f".crlft-scratch-{socket.gethostname()}-old", models / ".crlft-scratch-another-old"
    for folder in (old, foreign):
        folder.mkdir()
        os.utime(folder, (0, 0))
    scratch = Scratch(beside=models)
    assert scratch.path.parent == models
    assert not old.exists()
    assert foreign.exists()
    scratch.remove()
