"""Takes metrics from the training loop at once, and sees to it that MLflow gets them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crlft_ray.errors import UserError
from crlft_ray.tracking.run import Run
from crlft_ray.tracking.sender import Sender
from crlft_ray.tracking.spool import Record, Spool
from crlft_ray.tracking.store import reason, shown
from crlft_ray.tracking.system import SystemSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """What became of the values, when a recorder is closed."""

    sent: int
    """Confirmed to this recorder by MLflow."""
    unsent: int
    """Kept in the spool; the next recorder on the same folder sends them."""
    lost: int
    """Neither in MLflow nor on disk."""
    failure: str = field(default="", compare=False, repr=False)
    """Why values are unsent, as far as it is known."""

    @property
    def complete(self) -> bool:
        """Whether MLflow has everything."""
        return not self.unsent and not self.lost


@dataclass(frozen=True)
class History:
    """Records since a position, and the position to ask from next time."""

    records: list[Record]
    position: int


class Recorder:
    """Spools metrics and sends them to the run of `folder`, which `Run.describe` has described.

    Plain Python, so that it can be a Ray actor: `ray.remote(num_cpus=0)(Recorder)`. No method waits for MLflow,
    except `close`, and none raises because of it or of a full disk. A value is known by its name and step: the first
    one counts, so a run that goes on from a checkpoint may record again the steps it has to repeat.
    """

    def __init__(
        self,
        uri: str,
        folder: str | Path,
        *,
        system_metrics: bool = True,
        interval_s: float = 10.0,
        waits_for_access: bool = False,
    ) -> None:
        """Waits for the first value.

        Args:
            uri, folder: of the run.
            system_metrics: whether to measure the machine's load, every `interval_s` seconds from the first value on.
            waits_for_access: whether nothing is sent before `take_access`, as in an actor, which has its node's
                environment and not the driver's.

        Raises:
            UserError: no run was started in `folder`.
        """
        self._uri = uri
        self._folder = Path(folder)
        if not Run(uri, self._folder).started:
            raise UserError(f"{folder}: no run was started in this folder")
        self._spool = Spool(self._folder / "metrics.jsonl")
        self._lock = threading.Lock()
        self._waiting: deque[Record] = deque()
        self._disk_fails = False
        self._lost = 0
        self._latest: dict[str, Any] = {"step": None, "time_ms": None, "metrics": {}}
        self._delivery: Delivery | None = None
        if self._spool.damaged:
            log.warning("tracking: %d line(s) of %s cannot be read and are lost", self._spool.damaged, self._spool.path)
        self._sender = Sender(uri, self._folder, self._spool)
        self._sampler = SystemSampler(uri, self._record_system, interval_s) if system_metrics else None
        if not waits_for_access:
            self._sender.start()

    def take_access(self, environment: Mapping[str, str]) -> None:
        """Begins to send, with the driver's `mlflow_environment()`."""
        os.environ.update(environment)
        self._sender.start()

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the values of a step and returns at once; values of this name and step that are known are dropped."""
        if self._delivery is not None:
            log.warning("tracking: step %s was recorded after the end and is lost", step)
            return
        values: dict[str, float] = {}
        for name, value in metrics.items():
            try:
                values[str(name)] = float(value)
            except (TypeError, ValueError):
                self._lost += 1
                log.warning("tracking: step %s: %s is no number and is lost: %r", step, name, value)
        record = Record(int(step), int(time.time() * 1000), values)
        with self._lock:
            merged = {**self._latest["metrics"], **values}
            self._latest = {"step": record.step, "time_ms": record.time_ms, "metrics": merged}
            self._keep(record)
        self._sender.wake()
        self._measure()

    def _measure(self) -> None:
        """Begins to measure the machine; not at once, because it imports MLflow while the workers start."""
        if self._sampler is not None and self._sampler.ident is None:
            try:
                self._sampler.start()
            except RuntimeError as error:
                log.warning("tracking: no system metrics: %s", error)
                self._sampler = None

    def rewind(self, step: int) -> None:
        """What was recorded later than `step` no longer counts, because training goes on from there in another way.

        Not needed where the repeated steps give the same values. The spool, and so the plots, then show the new
        values; MLflow cannot take a point back, so it keeps those that it already has.
        """
        with self._lock:
            try:
                changed = self._spool.rewind(step)
            except OSError as error:
                log.warning("tracking: the steps after %d keep their first values: %s", step, error)
                return
        if changed:
            self._sender.wake(ask_again=True)

    def latest(self) -> dict[str, Any]:
        """The newest `step` and `time_ms`, and in `metrics` the newest value of every name."""
        return self._latest

    def history_since(self, position: int = 0) -> History:
        """The training records from a position on (0: all of them, also those of earlier processes)."""
        entries = list(self._spool.read(position))
        records = [record for _, record in entries if not record.system]
        return History(records, entries[-1][0] if entries else position)

    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as MLflow could not be reached."""
        return Run(self._uri, self._folder).run_id

    def close(self, timeout_s: float = 30.0) -> Delivery:
        """Sends what is left, and says what could not be; gives up when MLflow takes nothing for `timeout_s`."""
        if self._delivery is not None:
            return self._delivery
        if self._sampler is not None and self._sampler.ident is not None:
            self._sampler.finish()
        with self._lock:
            self._flush()
        self._sender.finish(timeout_s)
        lost = self._lost + sum(len(record.metrics) for record in self._waiting)
        self._delivery = Delivery(self._sender.sent, self._sender.unsent(), lost, self._sender.failure)
        if self._delivery.unsent:
            log.warning(
                "tracking: MLflow at %s lacks %d value(s); they are kept in %s, and the next run of this output sends "
                "them",
                shown(self._uri),
                self._delivery.unsent,
                self._spool.path,
            )
        if lost:
            log.warning("tracking: %d value(s) are lost", lost)
        self._spool.close()
        return self._delivery

    def _record_system(self, values: dict[str, float]) -> None:
        with self._lock:
            self._keep(Record(self._spool.next_system_step, int(time.time() * 1000), values))
        self._sender.wake()

    def _keep(self, record: Record) -> None:
        self._waiting.append(record)
        self._flush()

    def _flush(self) -> None:
        """Writes what waits; a full disk makes it wait in memory, in order."""
        try:
            while self._waiting:
                self._spool.append(self._waiting[0])
                self._waiting.popleft()
            self._disk_fails = False
        except OSError as error:
            if not self._disk_fails:
                log.warning("tracking: metrics cannot be kept on disk (%s) and wait in memory", error)
            self._disk_fails = True


def deliver(uri: str, folder: str | Path, timeout_s: float = 30.0) -> Delivery:
    """Brings to MLflow what an earlier process had to leave in `folder`: the run itself, values, artifacts, its end."""
    delivery = Recorder(uri, folder, system_metrics=False).close(timeout_s)
    try:
        Run(uri, Path(folder)).deliver()
    except Exception as error:
        # Kept still; the caller sees the values' count, the rest is in the warning.
        log.warning("tracking: MLflow at %s still lacks a part of the run (%s)", shown(uri), reason(error, uri))
    return delivery
