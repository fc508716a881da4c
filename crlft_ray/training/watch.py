"""Says which rank is missing when the others wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch


class RankMissing(RuntimeError):  # noqa: N818
    """A collective waited too long; the message names who did not come, and where they are."""


class Watch:
    """Keeps each rank's position where all ranks can read it, and turns a collective's time-out into an answer.

    Positions lie in the store of torch's process group, which lives in a thread of its own on rank 0 and answers even
    while rank 0 itself is stuck.
    """

    def __init__(
        self, store: Any, rank: int, world_size: int, timeout: float, say: Callable[[str], object] = lambda line: None
    ) -> None:
        """`say` is given the lines for the person who watches the run, of all ranks that wait one."""
        self._say = say
        self._store = store
        self._rank = rank
        self._world_size = world_size
        self._timeout = timeout
        self._step = 0
        self._count = 0
        self._since = time.monotonic()
        self._done = threading.Event()
        self._place("start")

    def begin_step(self, step: int) -> None:
        """This rank begins step `step`."""
        self._step = step
        self.at("its beginning")

    def at(self, position: str) -> None:
        """This rank has come to `position` of its step."""
        self._count += 1
        self._since = time.monotonic()
        self._place(position)

    def missing(self) -> str:
        """A sentence that names the ranks that are furthest behind, and their steps."""
        try:
            return self._missing()
        except RuntimeError:
            return f"rank 0, which keeps all positions, is gone; rank {self._rank} waits at step {self._step}"

    def _missing(self) -> str:
        places = [self._store.get(f"crlft/at/{rank}").decode().split("|") for rank in range(self._world_size)]
        behind = min(int(count) for count, _, _ in places)
        late = [
            f"rank {rank} (step {step}, {position})"
            for rank, (count, step, position) in enumerate(places)
            if int(count) == behind
        ]
        if len(late) == self._world_size:
            position = places[self._rank][2]
            return f"all ranks are at step {self._step}, {position}: one hangs in it, or the network between them does"
        return f"{' and '.join(late)} did not come; rank {self._rank} waits at step {self._step}"

    def __enter__(self) -> Watch:
        threading.Thread(target=self._tell_when_stuck, daemon=True, name="crlft-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        waited = time.monotonic() - self._since
        late = isinstance(error, RuntimeError) and waited > 0.9 * self._timeout
        # Memory that is used up is a RuntimeError, too, and may well come late.
        if late and not isinstance(error, RankMissing | torch.OutOfMemoryError):
            raise RankMissing(f"a collective waited {waited:.0f} s: {self.missing()}") from error

    def _place(self, position: str) -> None:
        self._store.set(f"crlft/at/{self._rank}", f"{self._count}|{self._step}|{position}")

    def _tell_when_stuck(self) -> None:
        # NCCL's own watchdog may end the process without an exception in Python; then this line is all there is. Nobody
        # is shown what a worker prints, but its node's logs may keep it where the way to the driver is cut off.
        told = 0.0
        while not self._done.wait(min(10.0, self._timeout / 4)):
            since = self._since
            waited = time.monotonic() - since
            if waited > 0.9 * self._timeout and since != told:
                told = since
                line = f"waiting for {waited:.0f} s: {self.missing()}"
                print(f"crlft: {line}", flush=True)
                if self._speaks_for_all():
                    self._say(f"WARNING: {line}")

    def _speaks_for_all(self) -> bool:
        """Whether this rank is the first one to tell of this step; where nobody can know that, rank 1 is."""
        try:
            return bool(self._store.add(f"crlft/told/{self._step}", 1) == 1)
        except RuntimeError:
            return self._rank == 1
