"""What rank 0 tells: metrics to be recorded, lines to the person who watches."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Any

from crlft_ray.checkpoints.state import RunState
from crlft_ray.device import peak_memory_gb
from crlft_ray.training.worker import TrainJob

if TYPE_CHECKING:
    from crlft_ray.checkpoints.resume import Resumption
    from crlft_ray.checkpoints.writer import Written
    from crlft_ray.training.step import StepResult


log = logging.getLogger(__name__)

_ANSWER_S = 5.0


class Reports:
    """Sends without waiting: neither tracking nor a slow driver makes training wait, but for the run's id at a
    checkpoint, and a moment. Other ranks are silent."""

    def __init__(self, job: TrainJob, rank: int) -> None:
        self._job = job
        self._rank = rank
        self._failed = self._skipped = 0
        self._unheard: list[Any] = []
        self._lock = threading.Lock()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Values measured after `step` steps; NaN is no value."""
        if self._rank == 0:
            told = self._job.channel.record.remote(step, {k: v for k, v in values.items() if not math.isnan(v)})
            with self._lock:
                self._unheard.append(told)

    def rewind(self, step: int) -> None:
        """What was measured later than `step` no longer counts."""
        if self._rank == 0:
            self._job.channel.rewind.remote(step)

    def run_id(self) -> str | None:
        """MLflow's id of the run, for rank 0; None where the channel does not know it, or does not answer."""
        import ray
        from ray.exceptions import RayError

        if self._rank != 0:
            return None
        try:
            run_id: str | None = ray.get(self._job.channel.run_id.remote(), timeout=_ANSWER_S)
        except RayError as error:
            log.warning("tracking: a checkpoint does not name MLflow's run: %s", error)
            return None
        return run_id

    def heard(self, seconds: float) -> None:
        """Waits until the channel has all metrics up to now.

        Raises:
            RayError: it has not after `seconds`, or is gone with the driver.
        """
        import ray

        with self._lock:
            unheard = list(self._unheard)
        ray.get(unheard, timeout=seconds)
        with self._lock:
            del self._unheard[: len(unheard)]

    def step(self, state: RunState, result: StepResult, *, lr: float, seconds: float, waited: float) -> None:
        """All of a step; `waited` seconds of it for data."""
        names = self._job.config.class_names
        values = {
            "train/loss": result.loss,
            "train/lr": lr,
            "train/grad_norm": result.grad_norm,
            "train/tokens_per_s": result.tokens / seconds,
            "train/step_s": seconds,
            "train/learned_tokens": float(result.learned_tokens),
            "train/wait_s": waited,
            "train/memory_gb": peak_memory_gb(self._job.config),
            "train/skipped_not_finite": float(state.not_finite),
            "train/skipped_no_weight": float(state.no_weight),
        }
        values |= {f"train/loss/{name}": loss for name, loss in zip(names, result.class_losses, strict=True)}
        values |= {f"train/weight_share/{name}": s for name, s in zip(names, result.weight_shares, strict=True)}
        self.metrics(state.step, values)

    def checkpoint(self, written: Written) -> None:
        """What became of a checkpoint; called from the writer's thread, too."""
        if written.skipped:
            self._skipped += 1
            if self._skipped == 1:
                self._say(
                    f"no checkpoint after step {written.step}: the last one is still being written; if that happens "
                    "often (checkpoint/skipped), raise train.checkpoint_every"
                )
            self.metrics(written.step, {"checkpoint/skipped": float(self._skipped)})
            return
        self._failed += bool(written.error)
        values = {"checkpoint/failed": float(self._failed)}
        if written.error:
            self._say(
                f"WARNING: no checkpoint after step {written.step}: {written.error}; training goes on, the last "
                "complete checkpoint stays valid"
            )
        else:
            values |= {"checkpoint/write_s": written.seconds, "checkpoint/gb": written.bytes / 1e9}
        self.metrics(written.step, values)

    def resumption(self, found: Resumption, world_size: int, bytes_read: float) -> None:
        """What going on has cost, and what had to be passed over; `bytes_read` by all ranks."""
        state = found.checkpoint.state
        for reason in found.passed_over:
            self._say(f"WARNING: a newer checkpoint cannot be used: {reason}")
        self._say(
            f"going on from step {state.step} ({found.checkpoint.place.name}), written by {state.world_size} workers, "
            f"with {world_size}: {bytes_read / 1e9:.2f} GB read in {found.seconds:.1f} s"
        )
        values = {
            "resume/gb_read": bytes_read / 1e9,
            "resume/seconds": found.seconds,
            "resume/seconds_per_billion_parameters": found.seconds / (state.parameters / 1e9),
        }
        self.metrics(state.step, values)

    def _say(self, line: str) -> None:
        if self._rank == 0:
            self._job.channel.say.remote(line)
