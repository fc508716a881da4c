"""Metrics on disk before they are anywhere else: an append-only JSONL file, readable while it is written.

A line is a record, `{"step", "time_ms", "metrics"}`, or `{"rewind": step}`, which takes back every training record of
a later step that stands above it. Non-finite values are the strings "NaN", "Infinity" and "-Infinity", so that each
line is JSON for any reader. A record is one write, so it survives the death of the process; it is not synced, so the
last seconds may go with the power.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM = "system/"
"""Prefix of the metrics of the machine; they count their own steps, and a rewind does not touch them."""


@dataclass(frozen=True)
class Record:
    """Values measured at one step."""

    step: int
    time_ms: int
    metrics: dict[str, float]

    @property
    def system(self) -> bool:
        """Whether it is of the machine, not of the training."""
        return _all_system(self.metrics)


def read_records(path: Path, start: int = 0) -> list[Record]:
    """The training records of a spool that no rewind took back, in the order in which they were written.

    Also right for a spool that another process is writing. `start` is a byte position at a line's beginning.
    """
    # A rewind stands behind what it takes back, so the list is complete before the first record is judged.
    entries = [(end, entry) for end, entry in _entries(path, start) if entry is not None]
    rewinds = [(end, entry) for end, entry in entries if isinstance(entry, int)]
    return [record for _, record in _surviving(entries, rewinds) if not record.system]


class Spool:
    """The one writer of a spool; opening an existing one continues it.

    Its methods are not locked against each other, except that `read` may run beside `append` and `rewind`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_system_step = 0
        self.damaged = 0
        """Lines that could not be read when the spool was opened."""
        self._names: dict[int, frozenset[str]] = {}
        self._shared: dict[frozenset[str], frozenset[str]] = {}
        self._rewinds: list[tuple[int, int]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # A process that was killed while writing, or a full disk, leaves a part of a line: nobody was told that it
        # was kept, and what is appended behind it would be lost with it.
        self._size = _whole_lines(path)
        os.ftruncate(self._file, self._size)
        if self._read_sent()[1] > self._size:
            # Of a spool that is gone; this one would grow past it and seem sent.
            self._sent_path.unlink()
        for end, entry in _entries(path, 0):
            if isinstance(entry, Record):
                self._remember(entry)
            elif entry is not None:
                self._forget_after(end, entry)
            else:
                self.damaged += 1

    @property
    def size(self) -> int:
        """Bytes of whole lines."""
        return self._size

    def append(self, record: Record) -> int:
        """Writes the values that the spool has not yet at this step, and returns how many they were.

        Raises:
            OSError: nothing was written.
        """
        known = self._names.get(record.step, frozenset())
        fresh = {name: value for name, value in record.metrics.items() if name not in known}
        if fresh:
            values = {name: _encode(value) for name, value in fresh.items()}
            self._write({"step": record.step, "time_ms": record.time_ms, "metrics": values})
            self._remember(Record(record.step, record.time_ms, fresh))
        return len(fresh)

    def rewind(self, step: int) -> bool:
        """Takes back the training records later than `step`; returns whether there were any.

        Raises:
            OSError: nothing was written.
        """
        later = any(known > step and not _all_system(names) for known, names in self._names.items())
        if later:
            self._write({"rewind": step})
            self._forget_after(self._size, step)
        return later

    def read(self, start: int = 0) -> Iterator[tuple[int, Record]]:
        """Surviving records from byte `start` on, each with the position behind it."""
        return _surviving(_entries(self.path, start), self._rewinds)

    def sent(self, run_id: str) -> int:
        """The position up to which the server has everything of this run; 0 where that is not known."""
        of_run, position = self._read_sent()
        return position if of_run == run_id else 0

    def mark_sent(self, run_id: str, position: int) -> None:
        """Keeps the position for the next process.

        Raises:
            OSError: the old one still stands; what it leaves in doubt is asked of the server.
        """
        replace_text(self._sent_path, json.dumps({"run_id": run_id, "position": position}))

    def close(self) -> None:
        """Closes the file; reading still works."""
        os.close(self._file)
        # A late writer must fail, not meet the next file that gets this number.
        self._file = -1

    @property
    def _sent_path(self) -> Path:
        return self.path.with_suffix(".sent.json")

    def _read_sent(self) -> tuple[str, int]:
        try:
            state = json.loads(self._sent_path.read_text(encoding="utf-8"))
            return str(state["run_id"]), int(state["position"])
        except (OSError, ValueError, KeyError, TypeError):
            # Never written, or damaged: the sender then asks the server what it has.
            return "", 0

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(f"{self.path}: only {written} of {len(data)} bytes could be written")
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _remember(self, record: Record) -> None:
        names = self._names.get(record.step, frozenset()).union(record.metrics)
        # Nearly all steps have the same names: one set serves them all.
        self._names[record.step] = self._shared.setdefault(names, names)
        if record.system:
            self.next_system_step = max(self.next_system_step, record.step + 1)

    def _forget_after(self, position: int, step: int) -> None:
        self._rewinds.append((position, step))
        for later in [known for known in self._names if known > step]:
            self._names[later] = frozenset(name for name in self._names[later] if name.startswith(SYSTEM))


def replace_text(path: Path, text: str) -> None:
    """Writes a small file so that a reader sees the old one or the new one, never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _surviving(
    entries: Iterable[tuple[int, Record | int | None]], rewinds: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, Record]]:
    for end, entry in entries:
        if not isinstance(entry, Record):
            continue
        if entry.system or not any(behind > end and entry.step > step for behind, step in rewinds):
            yield end, entry


def _entries(path: Path, start: int) -> Iterator[tuple[int, Record | int | None]]:
    """Whole lines, each with the position behind it: a record, the step of a rewind, or None for a damaged line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            end += len(raw)
            yield end, _parse(raw)


def _whole_lines(path: Path) -> int:
    if path.stat().st_size == 0:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.rfind(b"\n") + 1


def _parse(raw: bytes) -> Record | int | None:
    try:
        line = json.loads(raw)
        if "rewind" in line:
            return int(line["rewind"])
        metrics = {str(name): float(value) for name, value in line["metrics"].items()}
        return Record(int(line["step"]), int(line["time_ms"]), metrics)
    except (KeyError, TypeError, ValueError, AttributeError):
        # A damaged block of the disk costs its own lines, not those behind it.
        return None


def _encode(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _all_system(names: Iterable[str]) -> bool:
    return all(name.startswith(SYSTEM) for name in names)
