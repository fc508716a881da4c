"""The machine's load, measured by MLflow's monitors, on its way through the spool like any other metric.

MLflow's own monitoring thread ends at the first request that fails and loses what it had; here only its measuring
is used.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from crlft_ray.tracking.spool import SYSTEM

log = logging.getLogger(__name__)


class SystemSampler(threading.Thread):
    """Gives `take` the machine's load every `interval_s` (or MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL)."""

    def __init__(self, uri: str, take: Callable[[dict[str, float]], None], interval_s: float) -> None:
        super().__init__(name="crlft-system-metrics", daemon=True)
        self._uri = uri
        self._take = take
        self._interval_s = interval_s
        self._stop_event = threading.Event()

    def finish(self) -> None:
        """Takes a last sample and ends."""
        self._stop_event.set()
        self.join(2.0)

    def run(self) -> None:
        """The thread's loop."""
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor("", sampling_interval=self._interval_s, tracking_uri=self._uri)
            prefix = SYSTEM + (f"{monitor.node_id}/" if monitor.node_id else "")
            stopped = False
            while not stopped:
                stopped = self._stop_event.wait(monitor.sampling_interval)
                monitor.collect_metrics()
                self._take({f"{prefix}{name}": float(value) for name, value in monitor.aggregate_metrics().items()})
                for source in monitor.monitors:
                    source.clear_metrics()
        except Exception as error:
            # A broken GPU driver, a container that hides its load: measuring is a help, never a condition.
            log.warning("tracking: no system metrics from now on: %s: %s", type(error).__name__, error)
