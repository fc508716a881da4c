"""Shows a person what a run is doing: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

_LINE_EVERY_S = 10.0


class Progress:
    """Steps done, loss per class, tokens/s, time left; on stderr."""

    def __init__(self, steps: int, class_names: Sequence[str]) -> None:
        self._steps = steps
        self._class_names = class_names
        self._bar: Any = None
        self._task: Any = None
        self._printed = float("-inf")
        self._shown_step = -1
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("step"), BarColumn(bar_width=24), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[numbers]}"), TimeRemainingColumn(), TextColumn("left"),
                console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("train", total=self._steps, numbers="starting workers")
        else:
            print("starting workers", file=sys.stderr, flush=True)
        return self

    def show(self, step: int | None, metrics: dict[str, float]) -> None:
        """Shows the newest step's numbers."""
        if step is None or step == self._shown_step or "train/loss" not in metrics:
            return
        self._shown_step = step
        losses = " ".join(
            f"{name} {metrics[key]:.3f}" for name in self._class_names if (key := f"train/loss/{name}") in metrics
        )
        numbers = f"loss {metrics['train/loss']:.3f} ({losses})  {metrics['train/tokens_per_s']:.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, numbers=numbers)
            return
        now = time.monotonic()
        self._first = self._first or (step, now)
        if now - self._printed >= _LINE_EVERY_S or step == self._steps:
            self._printed = now
            print(f"step {step}/{self._steps}  {numbers}{self._left(step, now)}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _left(self, step: int, now: float) -> str:
        assert self._first is not None
        first_step, since = self._first
        if step == first_step:
            return ""
        seconds = (now - since) / (step - first_step) * (self._steps - step)
        return f"  {int(seconds // 60)}:{int(seconds % 60):02} left"
