"""What the driver and the workers tell each other while Ray Train runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from crlft_ray.tracking import Recorder

_POLL_S = 0.5


class Channel(Recorder):
    """The actor beside the driver: workers give it metrics and lines for a person, the driver asks for a stop.

    One for both, because every process of Ray's takes a hundredth of a core from those that train.
    """

    def __init__(self, uri: str, folder: str | Path) -> None:
        super().__init__(uri, folder, waits_for_access=True)
        self._stop = self._given_up = False
        self._lines: list[str] = []
        self._refusal = ""
        self._workers: list[Any] = []

    def ask_to_stop(self) -> None:
        """The run is to write a checkpoint after the current step, and end."""
        self._stop = True

    def stop_asked(self) -> bool:
        """Whether the driver asked."""
        return self._stop

    def join(self, worker: Any) -> bool:
        """A worker begins, and gives its handle; whether the run still wants it."""
        self._workers.append(worker)
        return not self._given_up

    def give_up(self) -> list[Any]:
        """The driver will not wait for the run's end: all workers there have been, to be killed; none may begin."""
        self._given_up = True
        return self._workers

    def say(self, line: str) -> None:
        """A line for the person who watches the run."""
        self._lines.append(line)

    def refuse(self, problem: str) -> None:
        """A worker has found what the user must mend; the others may wait for it, and are not to be started again."""
        self._refusal = self._refusal or problem

    def said_since(self, position: int) -> tuple[list[str], str]:
        """Lines from a position on, and what the user must mend, or nothing."""
        return self._lines[position:], self._refusal


class StopFlag:
    """Rank 0's view of whether a stop was asked for; never waits for the driver."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._asked = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="crlft-stop").start()

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def close(self) -> None:
        """Ends the watching."""
        self._done.set()

    def _watch(self) -> None:
        import ray
        from ray.exceptions import RayError

        while not self._done.wait(_POLL_S):
            try:
                if ray.get(self._channel.stop_asked.remote()):
                    self._asked.set()
                    return
            except RayError:
                # The driver is gone, and with it whoever could ask; Ray ends this worker.
                return
