"""Writes snapshots to storage beside the training; what fails there is said, and does not stop it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, Any, cast

import torch
import torch.distributed as dist

from crlft_ray.checkpoints.folder import StoredFile, checkpoint_place, commit, remove_old
from crlft_ray.checkpoints.snapshot import Snapshots
from crlft_ray.checkpoints.state import RunState
from crlft_ray.storage import Place

_POLL_S = 0.05
_DONE, _FAILED = "done", "failed"


@dataclass(frozen=True)
class Written:
    """What became of one checkpoint; known to rank 0."""

    step: int
    error: str = ""
    skipped: bool = False
    """Not begun, because the last one was still being written."""
    seconds: float = 0.0
    """From the snapshot to the commit."""
    bytes: int = 0


class Writer:
    """Takes this rank's snapshots and writes them in a thread of its own, one at a time.

    Rank 0 commits a checkpoint when every rank has told that its files are written; the ranks tell each other through
    the store of torch's process group.
    """

    def __init__(
        self,
        folder: Place,
        attempt: int,
        keep: int,
        timeout: float,
        written: Callable[[Written], None],
        heard: Callable[[float], None],
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: of all checkpoints of the run.
            attempt: number of this start of the workers.
            keep: newest checkpoints that stay.
            timeout: seconds to wait for the other ranks, and for `heard`.
            written: is told what became of each checkpoint, on rank 0.
            heard: waits, on rank 0, until what was measured up to now is kept, or raises. A run goes on from its newest
                checkpoint, so what was measured before it must not be lost with the driver.
        """
        self._folder = folder
        self._attempt = attempt
        self._keep = keep
        self._timeout = timeout
        self._written, self._heard = written, heard
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self._store: Any = dist.distributed_c10d._get_default_store()
        self._snapshots = Snapshots()
        self._thread = ThreadPoolExecutor(1, "crlft-checkpoint")
        self._running: Future[bool] | None = None
        self._begun = 0

    def save(self, engine: Any, state: RunState, *, wait: bool = False) -> float | None:
        """Snapshots the engine and lets it be written; collective.

        Without `wait`, nothing is done while any rank still writes the last one. Returns the seconds that training
        was blocked by the copy, or None where it was left out.
        """
        if wait:
            self.finish()
        busy = torch.tensor([float(self._running is not None and not self._running.done())], device=engine.device)
        dist.all_reduce(busy, op=dist.ReduceOp.MAX)
        if busy.item():
            if self._rank == 0:
                self._written(Written(state.step, skipped=True))
            return None
        began = time.perf_counter()
        contents = self._snapshots.take(engine)
        blocked = time.perf_counter() - began
        self._begun += 1
        self._running = self._thread.submit(self._write, contents, state, self._begun)
        if wait:
            self.finish()
        return blocked

    def finish(self) -> bool:
        """Waits until the last checkpoint is written, or has failed; whether it is complete, as far as rank 0 knows."""
        return self._running is None or self._running.result()

    def _write(self, contents: dict[str, Any], state: RunState, number: int) -> bool:
        """Whether the checkpoint is complete; of this rank's part alone where it is not rank 0."""
        began = time.monotonic()
        place = checkpoint_place(self._folder, self._attempt, state.step)
        try:
            files = [self._write_file(place, name, content) for name, content in contents.items()]
            outcome: list[Any] = [_DONE, [asdict(file) for file in files]]
        except Exception as error:
            # Storage fails in many ways: OSError, torch's own for a writer that failed, those of a store's client.
            outcome = [_FAILED, f"rank {self._rank}: {_reason(error)}"]
        self._store.set(self._key(number, self._rank), json.dumps(outcome))
        if self._rank != 0:
            return bool(outcome[0] == _DONE)
        complete, written = self._commit(place, state, number, began)
        self._written(written)
        return complete

    def _write_file(self, place: Place, name: str, content: Any) -> StoredFile:
        target = place / name
        target.parent.make_folder()
        with target.filesystem.open_output_stream(target.path) as stream:
            hashing = _Hashing(stream)
            try:
                torch.save(content, cast(IO[bytes], hashing))
            except Exception as error:
                # torch finishes its archive after a failed write, and then speaks of that instead.
                raise hashing.failed or error from error
        return StoredFile(name, self._rank, hashing.size, hashing.digest.hexdigest())

    def _commit(self, place: Place, state: RunState, number: int, began: float) -> tuple[bool, Written]:
        outcomes = [self._outcome_of(rank, number) for rank in range(self._world_size)]
        files = [StoredFile(**file) for outcome, content in outcomes if outcome == _DONE for file in content]
        try:
            for outcome, content in outcomes:
                if outcome == _FAILED:
                    raise OSError(content)
            self._heard(self._timeout)
            commit(place, state, files)
        except Exception as error:
            return False, Written(state.step, error=f"{_reason(error)}{_removed(place)}")
        try:
            remove_old(self._folder, self._keep)
        except Exception as error:
            error_text = f"it is complete, but older ones cannot be removed: {_reason(error)}"
            return True, Written(state.step, error=error_text)
        return True, Written(state.step, seconds=time.monotonic() - began, bytes=sum(file.size for file in files))

    def _outcome_of(self, rank: int, number: int) -> list[Any]:
        key, deadline = self._key(number, rank), time.monotonic() + self._timeout
        # `get` would wait with the store locked for everyone else in this process.
        while not self._store.check([key]):
            if time.monotonic() > deadline:
                return [_FAILED, f"rank {rank} has not written its part after {self._timeout:.0f} s"]
            time.sleep(_POLL_S)
        found: list[Any] = json.loads(self._store.get(key))
        return found

    def _key(self, number: int, rank: int) -> str:
        """Of the `number`-th checkpoint of this start: one that failed is written again after the same step."""
        return f"crlft/checkpoint/{number}/{rank}"


class _Hashing:
    """A binary file that also counts and hashes what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0
        self.failed: Exception | None = None
        """The first error of a write."""

    def write(self, content: Any) -> int:
        try:
            self._stream.write(content)
        except Exception as error:
            self.failed = self.failed or error
            raise
        self.digest.update(content)
        self.size += len(content)
        return len(content)

    def flush(self) -> None:
        self._stream.flush()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _removed(place: Place) -> str:
    """Frees what a failed checkpoint takes; says so if that fails, too."""
    try:
        place.remove()
    except Exception as error:
        return f"; its remains cannot be removed: {_reason(error)}"
    return ""
