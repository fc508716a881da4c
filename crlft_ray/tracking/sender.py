"""The thread that brings a spool to MLflow: each value once, whatever happens on the way."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crlft_ray.tracking.run import Run
from crlft_ray.tracking.spool import Record, Spool
from crlft_ray.tracking.store import connect, entity_name, reason, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

_BATCH = 1000  # MLflow's largest number of metrics in one call
_PAUSE_S = 0.5  # between two batches: a fast loop makes larger batches, not more of them
_LONGEST_WAIT_S = 30.0
_LONGEST_IMPORT_S = 120.0
_LONGEST_FINISH_S = 300.0


class Sender(threading.Thread):
    """Sends what the spool has and the server lacks.

    Why a value arrives once: before the first value of a name is sent, and again after any failure, the server is
    asked for the steps it has of that name, and only others are sent. A request that timed out and is still under
    way inside the server escapes that question; but the spool gives a value the same timestamp each time, and for
    MLflow's database the same value of the same name, step and timestamp is one row.
    """

    def __init__(self, uri: str, folder: Path, spool: Spool) -> None:
        super().__init__(name="crlft-metrics", daemon=True)
        self.sent = 0
        """Values that the server confirmed to this thread."""
        self.failure = ""
        """Why the last batch could not be sent; empty when it could."""
        self._uri = uri
        self._run = Run(uri, folder)
        self._spool = spool
        self._client: MlflowClient | None = None
        self._run_id: str | None = None
        self._position = 0
        self._server_has: dict[str, set[int]] = {}
        self._failures = 0
        self._wake = threading.Event()
        self._ask_again = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()

    def wake(self, ask_again: bool = False) -> None:
        """There is something to send; `ask_again` when values that were sent may come again."""
        if ask_again:
            self._ask_again.set()
        self._wake.set()

    def finish(self, timeout_s: float) -> None:
        """Sends what is left; gives up when MLflow takes nothing for `timeout_s`."""
        self._closing.set()
        self._wake.set()
        began = last = time.monotonic()
        progress = None
        while self.is_alive():
            self.join(0.1)
            now = time.monotonic()
            if (seen := (self._client is None, self._position)) != progress:
                progress, last = seen, now
            # Until there is a client, MLflow is only being imported: slow on a busy machine, and no fault of a server.
            patience = _LONGEST_IMPORT_S if self._client is None and not self._failures else timeout_s
            if now - last >= patience or now - began >= _LONGEST_FINISH_S:
                break
        self._abandoned.set()

    def unsent(self) -> int:
        """Values of the spool that the server is not known to have."""
        position = self._position
        if self._run_id is None:
            run_id = self._run.run_id
            position = self._spool.sent(run_id) if run_id is not None else 0
        return sum(len(record.metrics) for _, record in self._spool.read(position))

    def run(self) -> None:
        """The thread's loop; ends after `finish`, when everything is sent or the time is over."""
        # Importing MLflow would take from what starts meanwhile.
        self._wake.wait()
        while not self._abandoned.is_set():
            # Cleared before looking, so that a record that comes in between is not slept over.
            self._wake.clear()
            try:
                more = self._send_batch()
            except Exception as error:
                # Of any kind: a thread that dies here would lose values without a word.
                self._failed(error)
                continue
            if self._failures:
                log.warning("tracking: MLflow at %s takes metrics again", shown(self._uri))
                self._failures, self.failure = 0, ""
            if more:
                self._closing.wait(_PAUSE_S)
            elif self._closing.is_set():
                return
            else:
                self._wake.wait()

    def _failed(self, error: Exception) -> None:
        self._server_has.clear()
        self._failures += 1
        self.failure = reason(error, self._uri)
        if self._failures == 1:
            log.warning(
                "tracking: MLflow at %s does not take metrics (%s). Training goes on; they are kept in %s and sent "
                "when it is back.",
                shown(self._uri),
                self.failure,
                self._spool.path,
            )
        if self._closing.is_set():
            self._abandoned.wait(0.5)
        else:
            self._closing.wait(min(2.0 ** (self._failures - 1), _LONGEST_WAIT_S))

    def _send_batch(self) -> bool:
        """Sends the next records; returns whether there were any."""
        records: list[Record] = []
        if self._run_id is None:
            run_id = self._run.open()
            self._client = connect(self._uri)
            self._position = self._spool.sent(run_id)
            # Last: with it the beginning is done, and a failure before is begun again.
            self._run_id = run_id
        assert self._client is not None
        count, position = 0, self._position
        for end, record in self._spool.read(self._position):
            position = end
            records.append(record)
            count += len(record.metrics)
            if count >= _BATCH:
                break
        if not records:
            return False
        if self._ask_again.is_set():
            self._ask_again.clear()
            self._server_has.clear()
        metrics = self._lacking(self._client, self._run_id, records)
        for first in range(0, len(metrics), _BATCH):
            batch = metrics[first : first + _BATCH]
            self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
            self.sent += len(batch)
        self._position = position
        try:
            self._spool.mark_sent(self._run_id, position)
        except OSError as error:
            # Only costs the next process a question to the server.
            log.debug("tracking: the position could not be kept: %s", error)
        return True

    def _lacking(self, client: MlflowClient, run_id: str, records: list[Record]) -> list[Metric]:
        from mlflow.entities import Metric

        metrics = []
        for record in records:
            for own_name, value in record.metrics.items():
                name = entity_name(own_name)
                if name not in self._server_has:
                    self._server_has[name] = {metric.step for metric in client.get_metric_history(run_id, name)}
                if record.step not in self._server_has[name]:
                    metrics.append(Metric(name, value, record.time_ms, record.step))
        return metrics
