"""What happened in a study, line by line: it survives the driver, and says what was found before a restart.

Ray Tune keeps the trials and the searcher's state, but not the scheduler's, and its own files are pickles of its
version; this is JSON that anybody can read. A line is written at once and whole; a torn last line is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from crlft_ray.json_text import json_text

State = Literal["running", "finished", "stopped early", "failed"]


@dataclass
class TrialLog:
    """One trial, as far as it has come."""

    trial: str
    values: dict[str, Any]
    """Config key → value."""
    state: State = "running"
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Step and metric, in the order of steps."""
    tokens: int = 0
    """Slots that it has trained on."""
    last: dict[str, Any] = field(default_factory=dict)
    """What it reported at last."""
    error: str = ""

    @property
    def score(self) -> float:
        """The metric at its last measurement; NaN without any."""
        return self.curve[-1][1] if self.curve else float("nan")

    @property
    def step(self) -> int:
        """The last step that was measured."""
        return self.curve[-1][0] if self.curve else 0


class Journal:
    """The file; one process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            # A process that was killed while writing left a part of a line.
            whole = path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if len(kept) < len(whole):
                os.truncate(path, len(kept))

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """A trial runs, for the first time or again."""
        self._write({"event": "started", "trial": trial, "values": dict(values)})

    def reported(self, trial: str, result: Mapping[str, Any]) -> None:
        """A trial's metric after a step; the same step again is the same value."""
        self._write({"event": "reported", "trial": trial, **result})

    def ended(self, trial: str, state: State, error: str = "") -> None:
        """A trial is over."""
        self._write({"event": "ended", "trial": trial, "state": state, "error": error})

    def trials(self) -> dict[str, TrialLog]:
        """All trials in the order in which they began."""
        found: dict[str, TrialLog] = {}
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            entry = json.loads(line)
            event, trial = entry.pop("event"), entry.pop("trial")
            if event == "started":
                log = found.setdefault(trial, TrialLog(trial, entry["values"]))
                log.state, log.error = "running", ""
            elif event == "reported":
                log = found[trial]
                if entry["step"] > log.step or not log.curve:
                    log.curve.append((entry["step"], entry["score"]))
                log.tokens = max(log.tokens, entry["tokens"])
                log.last |= entry
                if entry.get("finished"):
                    # Where the budget ends with this very report, Tune says no more of the trial.
                    log.state = "finished"
            else:
                found[trial].state, found[trial].error = entry["state"], entry["error"]
        return found

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json_text(line).encode() + b"\n")


def shown_values(values: dict[str, Any]) -> str:
    """A trial's values in one line."""
    shown = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return ", ".join(f"{key} = {value}" for key, value in shown.items())
