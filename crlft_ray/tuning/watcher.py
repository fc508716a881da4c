"""Follows the trials: keeps the journal, and tells a person."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray.tune import Callback

from crlft_ray.tuning.journal import Journal, State, shown_values

log = logging.getLogger(__name__)

_GONE_S = 3.0
"""Tune first tells of a trial that it stops, then ends its process; what is removed must not be written again."""


class Watcher(Callback):  # type: ignore[misc]
    """Tune calls it in the driver, and stops a trial only when the call has returned: `ended`, which cleans up after
    one and may wait for MLflow, is called in a thread of its own."""

    def __init__(
        self,
        journal: Journal,
        metric: str,
        ended: Callable[[str, dict[str, Any], State], None],
    ) -> None:
        self._journal = journal
        self._metric = metric
        self._ended = ended
        self._started: set[str] = set()
        self._finished: set[str] = set()
        self._cleaning: ThreadPoolExecutor | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The first time and again after a failure."""
        name, values = trial.config["trial"], trial.config["values"]
        self._journal.started(name, values)
        again = f" again ({_cause(trial)})" if name in self._started else ""
        self._started.add(name)
        log.info("trial %s starts%s: %s", name, again, shown_values(values))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The metric after a step."""
        if "score" not in result:
            return
        name = trial.config["trial"]
        plain = {k: v for k, v in result.items() if k in _REPORTED or k.startswith(("start/", "export/"))}
        self._journal.reported(name, plain)
        if result.get("finished"):
            self._finished.add(name)
            log.info("trial %s is finished: %s %.4f", name, self._metric, result["score"])
            return
        log.info("trial %s: step %d, %s %.4f", name, result["step"], self._metric, result["score"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finished, or stopped early; Tune does not call it for what is cut off with the study, and goes on with it."""
        name = trial.config["trial"]
        finished = name in self._finished
        self._end(trial, "finished" if finished else "stopped early")
        if not finished:
            log.info("trial %s is stopped early", name)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Failed for the second time."""
        error = _cause(trial)
        self._end(trial, "failed", error)
        log.warning("trial %s failed twice and is left out: %s", trial.config["trial"], error)

    def _end(self, trial: Any, state: State, error: str = "") -> None:
        name, values = trial.config["trial"], trial.config["values"]
        self._journal.ended(name, state, error)
        self._cleaning = self._cleaning or ThreadPoolExecutor(1, "crlft-clean")
        self._cleaning.submit(self._clean, name, values, state)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Waits for what is being cleaned up."""
        if self._cleaning is not None:
            self._cleaning.shutdown()

    def _clean(self, name: str, values: dict[str, Any], state: State) -> None:
        if state != "finished":
            time.sleep(_GONE_S)
        try:
            self._ended(name, values, state)
        except Exception as error:
            log.warning("trial %s: could not be cleaned up: %s: %s", name, type(error).__name__, error)


_REPORTED = {
    "score", "se", "step", "steps", "tokens", "finished", "seconds", "whole", "training_s", "evaluation_s",
    "mlflow_run_id",
}  # fmt: skip


def _cause(trial: Any) -> str:
    """The last line of the error that Tune kept."""
    file = trial.error_file
    lines = Path(file).read_text().strip().splitlines() if file and Path(file).exists() else []
    return lines[-1].strip() if lines else "its process died"
