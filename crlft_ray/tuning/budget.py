"""Ends a study when its budget is used up."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Stopper

from crlft_ray.config.tune import Budget
from crlft_ray.tracking.spool import replace_text
from crlft_ray.tuning.journal import TrialLog

_EXPORT_S = 600.0
"""How long a trial that has made its last step is waited for at most."""


@dataclass
class StopAsked:
    """Whether the study is to stop for now. Plain, because Tune pickles whoever holds it."""

    yes: bool = False


class BudgetStopper(Stopper):  # type: ignore[misc]
    """Stops all trials once hours or tokens are used up, or somebody asked; the time of earlier starts is in a file."""

    def __init__(self, budget: Budget, steps: int, past: dict[str, TrialLog], file: Path, asked: StopAsked) -> None:
        self._budget = budget
        self._steps = steps
        self._exporting: dict[str, float] = {}
        self._file = file
        self._asked = asked
        self._tokens = {name: log.tokens for name, log in past.items()}
        self._before = float(json.loads(file.read_text())["seconds"]) if file.exists() else 0.0
        self._began = time.monotonic()
        self.reason = ""
        """Why the study ended before its trials were run; empty if it did not."""

    @property
    def seconds(self) -> float:
        """That the study has run."""
        return self._before + time.monotonic() - self._began

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Counts; a single trial is never stopped for the budget."""
        name = result["config"]["trial"]
        self._tokens[name] = max(self._tokens.get(name, 0), int(result.get("tokens", 0)))
        if result.get("step", 0) >= result.get("steps", self._steps) and not result.get("finished"):
            self._exporting[name] = time.monotonic()
        else:
            self._exporting.pop(name, None)
        self.keep()
        return False

    def stop_all(self) -> bool:
        """Whether the budget is used up and no trial is about to be finished, or somebody asked to stop."""
        hours, tokens = self._budget.hours, self._budget.tokens
        if hours is not None and self.seconds >= hours * 3600:
            self.reason = f"tune.budget.hours: {hours:g} hours are over"
        elif tokens is not None and sum(self._tokens.values()) >= tokens:
            self.reason = f"tune.budget.tokens: {tokens:,} tokens are used up"
        waiting = any(time.monotonic() - since < _EXPORT_S for since in self._exporting.values())
        return (bool(self.reason) and not waiting) or self._asked.yes

    def keep(self) -> None:
        """Writes the time used, for the next start."""
        replace_text(self._file, json.dumps({"seconds": self.seconds}))
