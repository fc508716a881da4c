"""One owner of an output folder: a lease with a heartbeat, on whatever storage the folder is on."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.storage import Place

log = logging.getLogger(__name__)

_BEAT_S = 3.0
_SILENT_S = 12.0
"""An owner elsewhere that has not beaten for so long is dead."""
_SETTLE_S = 0.5
"""Two that claim at once see within this time who was last; that one has it."""
_START_FIELD = 22
"""`starttime` among the fields of /proc/PID/stat, counted from 1 (proc_pid_stat(5))."""

_held: dict[str, Lease] = {}


class Lease:
    """A file that its owner writes again and again; storage needs nothing but reading and writing."""

    def __init__(self, output: Place) -> None:
        self._output = output
        self._place = output / "owner.json"
        self._id = uuid.uuid4().hex
        self._beats = 0
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="crlft-lease")

    def take(self) -> None:
        """Waits until it is clear that nobody else owns the folder.

        Raises:
            UserError: somebody does.
        """
        owner = self._read()
        if owner is not None and _may_live(owner):
            self._refuse_if_alive(owner)
        self._output.make_folder()
        self._write()
        time.sleep(_SETTLE_S)
        now = self._read()
        if now is None or now["id"] != self._id:
            raise UserError(_taken(self._output, now or {}))
        self._thread.start()

    def check(self) -> None:
        """Raises TrainingFailed if another process has taken the folder meanwhile."""
        if self._lost.is_set():
            raise TrainingFailed(f"output: {self._output} was taken over by another run while this one was cut off")

    def give_back(self) -> None:
        """Lets the next owner in at once."""
        self._done.set()
        self._thread.join()
        try:
            owner = self._read()
            if owner is not None and owner["id"] == self._id:
                self._place.remove()
        except OSError as error:
            log.warning("%s could not be removed: %s; the next run waits %.0f s", self._place, error, _SILENT_S)

    def _refuse_if_alive(self, owner: dict[str, Any]) -> None:
        if not _seen_from_here(owner):
            log.info("output: %s was owned by a run on %s; seeing whether it still is", self._output, owner["host"])
            deadline = time.monotonic() + _SILENT_S
            while time.monotonic() < deadline:
                time.sleep(_SETTLE_S)
                now = self._read()
                if now is None:
                    return
                if (now["id"], now["beats"]) != (owner["id"], owner["beats"]):
                    raise UserError(_taken(self._output, now))
            return
        raise UserError(_taken(self._output, owner))

    def _beat(self) -> None:
        while not self._done.wait(_BEAT_S):
            try:
                owner = self._read()
                if owner is not None and owner["id"] != self._id:
                    self._lost.set()
                    return
                self._write()
            except OSError as error:
                # Storage that is away must not stop the run; who takes over meanwhile is seen at the next beat.
                log.debug("lease: %s", error)

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._place.read_text())) if self._place.exists() else None
        except FileNotFoundError:
            return None
        except ValueError:
            # Torn by a crash of the machine: whoever wrote it is gone.
            return None

    def _write(self) -> None:
        self._beats += 1
        owner = {
            "id": self._id,
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid_namespace": _pid_namespace(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "beats": self._beats,
        }
        self._place.write_text(json.dumps(owner))


@contextmanager
def owned(output: str) -> Iterator[Lease]:
    """Holds the lease of an output folder; stages that run in a row in one process share it.

    Raises:
        UserError: another run owns the folder.
    """
    place = Place.of(output)
    if (held := _held.get(str(place))) is not None:
        yield held
        return
    lease = Lease(place)
    lease.take()
    _held[str(place)] = lease
    try:
        yield lease
    finally:
        del _held[str(place)]
        lease.give_back()


def _may_live(owner: dict[str, Any]) -> bool:
    return not _seen_from_here(owner) or _start_of(int(owner["pid"])) == owner["started"]


def _seen_from_here(owner: dict[str, Any]) -> bool:
    """Whether its process, if it lives, is one of those that this process sees under their numbers.

    Containers may share the host's name, and its boot in any case, but number their processes each for itself. Earlier
    versions did not write down where a number holds.
    """
    here = (socket.gethostname(), _boot_id(), _pid_namespace())
    return all(here) and (owner["host"], owner["boot"], owner.get("pid_namespace")) == here


def _taken(output: Place, owner: dict[str, Any]) -> str:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return f"output: {output} is being written by another run ({who}); wait for it, stop it, or choose another output"


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process began, so that a number given to another process is not taken for it; None if there is none."""
    if Path("/proc/self/stat").exists():
        # In ticks since the machine's start. As a time of day, as psutil has it, it would change with every correction
        # of the clock, and a living process would be taken for another one.
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The second field is the program's name in brackets, which may hold anything.
        return stat.rpartition(b")")[2].split()[_START_FIELD - 3].decode()
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
