"""Folders for large passing files, which do not outlive their process for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "crlft-scratch-"
_LOCK = "lock"
_BEGUN_S = 3600.0
"""A folder without a lock is so new that its process has not locked it yet; after this long that process has died."""


class Scratch:
    """A folder of this process alone, in the machine's temporary space or beside what it is to become.

    A process that is killed cannot remove its folder, and the next attempt would bring the same files once more: each
    new folder is made after those of dead processes of this user have been removed. The kernel gives a lock back with
    its process.
    """

    def __init__(self, beside: Path | None = None) -> None:
        # Machines may share that folder without sharing locks: there each looks after its own.
        prefix = _PREFIX if beside is None else f".{_PREFIX}{socket.gethostname()}-"
        space = Path(tempfile.gettempdir()) if beside is None else beside
        _remove_abandoned(space, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=space))
        # It gets its name when it is locked: nobody finds it otherwise.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = unnamed.open("w")
        # On a file system without locks nobody can tell whether the process lives, and the folder stays.
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Removes it with what is in it, also a second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A `Scratch` for a block of code."""
    scratch = Scratch()
    try:
        yield scratch.path
    finally:
        scratch.remove()


def _remove_abandoned(space: Path, prefix: str) -> None:
    for folder in space.glob(f"{prefix}*"):
        try:
            if folder.stat(follow_symlinks=False).st_uid == os.getuid() and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Gone, or on a file system without locks: it stays.
            continue


def _abandoned(folder: Path) -> bool:
    lock = folder / _LOCK
    if not lock.exists():
        return time.time() - folder.stat().st_mtime > _BEGUN_S
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
