"""A rank's loop: learn step by step, checkpoint, evaluate, stop when asked, export."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from crlft_ray.checkpoints.folder import begin_attempt
from crlft_ray.checkpoints.state import RunState
from crlft_ray.shards.shard import Pack
from crlft_ray.training.channel import StopFlag
from crlft_ray.training.reports import Reports
from crlft_ray.training.schedule import lr_at, planned_steps
from crlft_ray.training.worker import TrainJob

if TYPE_CHECKING:
    from crlft_ray.checkpoints.resume import Resumption
    from crlft_ray.training.watch import Watch

MOST_NOT_FINITE = 10
"""Steps in a row without a finite gradient after which a run gives up."""


class Loop:
    """One rank's part of a run, from its newest checkpoint on."""

    def __init__(
        self, job: TrainJob, engine: Any, packs: Iterator[Pack], found: Resumption | None, start: dict[str, float]
    ) -> None:
        import torch
        import torch.distributed as dist

        from crlft_ray.checkpoints.writer import Writer
        from crlft_ray.training.heldout import HeldoutEvaluation

        self._job = job
        self._engine = engine
        self._packs = packs
        self._heldout = HeldoutEvaluation(job, engine)
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self._order = job.order
        self._steps = planned_steps(job.config, self._order)
        self._state = replace(
            found.checkpoint.state if found else self._beginning(),
            world_size=self._world_size,
            sub_group_size=engine.optimizer.sub_group_size,
        )
        self._reports = Reports(job, self._rank)
        if found and found.checkpoint.state.config.get("train") != job.config.model_dump(mode="json")["train"]:
            # The steps after it are learned in another way, and give other values. The driver has looked at the newest
            # checkpoint and the folder's config; which one can be read is known here.
            self._reports.rewind(self._state.step)
        self._reports.metrics(self._state.step, start)
        attempt = torch.tensor([begin_attempt(job.checkpoints) if self._rank == 0 else 0], device=engine.device)
        dist.broadcast(attempt, 0)
        config = job.config.train
        self._writer = Writer(
            job.checkpoints,
            int(attempt),
            config.keep,
            config.collective_timeout,
            written=self._reports.checkpoint,
            heard=self._reports.heard,
        )
        self._saved: int | None = None
        """Step after which this start has begun its last checkpoint."""
        if found:
            bytes_read = torch.tensor([float(found.bytes_read)], device=engine.device)
            dist.all_reduce(bytes_read)
            self._reports.resumption(found, self._world_size, bytes_read.item())

    def _beginning(self) -> RunState:
        job = self._job
        return RunState(
            step=0,
            packs_consumed=0,
            world_size=self._world_size,
            fingerprint=job.manifest.fingerprint,
            tokenizer=job.tokenizer.digest,
            model_shape=job.model_shape,
            parameters=sum(getattr(p, "ds_numel", p.numel()) for p in self._engine.module.parameters()),
            seed=job.config.train.seed,
            mlflow_run_id="",
            not_finite=0,
            no_weight=0,
            heldout=None,
            config={},
        )

    def train(self) -> dict[str, Any]:
        import torch.distributed as dist

        from crlft_ray.training.watch import Watch

        self._state = replace(self._state, config=self._job.config.model_dump(mode="json", by_alias=True))
        first = self._order.step_at(self._state.packs_consumed)
        store = dist.distributed_c10d._get_default_store()
        timeout = self._job.config.train.collective_timeout
        watch = Watch(store, self._rank, self._world_size, timeout, self._job.channel.say.remote)
        with watch:
            failed = self._loop(first, watch)
        if failed:
            self._writer.finish()
            return {"failed": failed, "user_error": False}
        done = {"first_step": first, **asdict(self._state)}
        if self._state.step < self._steps:
            return {**done, "stopped": True, "kept": self._writer.finish()}
        every = self._job.config.evaluate.every
        if every and self._steps % every:
            self._evaluate_heldout(watch)
        began = time.perf_counter()
        self._export()
        self._writer.finish()
        self._reports.metrics(self._state.step, {"export/seconds": time.perf_counter() - began})
        return done

    def _loop(self, first: int, watch: Watch) -> str | None:
        """Runs the steps; returns why it had to stop."""
        import torch

        from crlft_ray.training.step import Stepper

        config = self._job.config
        stepper = Stepper(self._engine, config.class_weights(), per_sequence=config.train.per_sequence, watch=watch)
        in_a_row = 0
        stop = StopFlag(self._job.channel) if self._rank == 0 else None
        for step in range(first, self._steps):
            watch.at("stop")
            if self._agreed(bool(stop)):
                self._save_at_stop()
                break
            began = time.perf_counter()
            watch.begin_step(step)
            # Whatever a model draws (dropout) is a function of the step, so a run that goes on draws the same.
            torch.manual_seed(config.train.seed * 1_000_003 + step)
            wanted = self._order.rank_packs(step, self._rank, self._world_size)
            taken = list(islice(self._packs, wanted))
            if len(taken) != wanted:
                raise RuntimeError(f"step {step}: rank {self._rank} got {len(taken)} of {wanted} packs")
            waited = time.perf_counter() - began
            lr = lr_at(
                step, steps=self._steps, peak=self._job.peak_lr, warmup=config.train.warmup, final=config.train.final_lr
            )
            result = stepper.step(taken, self._order.micro_batches(step, self._world_size), lr)
            self._advance(step, result.skipped)
            self._reports.step(self._state, result, lr=lr, seconds=time.perf_counter() - began, waited=waited)
            in_a_row = in_a_row + 1 if result.skipped == "not finite" else 0
            if in_a_row == MOST_NOT_FINITE:
                return (
                    f"steps {step - MOST_NOT_FINITE + 2} to {step + 1} had no finite loss or gradient; lower train.lr, "
                    "or look for broken conversations with `crlft inspect`"
                )
            every = config.evaluate.every
            if every and (step + 1) % every == 0:
                self._evaluate_heldout(watch)
            if self._checkpoint_due(step + 1):
                watch.at("checkpoint")
                self._save(wait=step + 1 == self._steps)
        if stop is not None:
            stop.close()
        return None

    def _agreed(self, stop: bool) -> bool:
        """Whether rank 0 wants to stop; the same on every rank."""
        import torch
        import torch.distributed as dist

        flag = torch.tensor([float(stop)], device=self._engine.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def _advance(self, step: int, skipped: str) -> None:
        self._state = replace(
            self._state,
            step=step + 1,
            packs_consumed=self._order.consumed(step + 1),
            not_finite=self._state.not_finite + (skipped == "not finite"),
            no_weight=self._state.no_weight + (skipped == "no weight"),
            heldout=None,
        )

    def _checkpoint_due(self, done: int) -> bool:
        end_of_epoch = done % self._order.steps_per_epoch == 0
        return done == self._steps or end_of_epoch or done % self._job.config.train.checkpoint_every == 0

    def _save(self, *, wait: bool = False) -> None:
        self._state = replace(self._state, mlflow_run_id=self._reports.run_id() or self._state.mlflow_run_id)
        blocked = self._writer.save(self._engine, self._state, wait=wait)
        if blocked is not None:
            self._saved = self._state.step
            self._reports.metrics(self._state.step, {"checkpoint/blocked_s": blocked})

    def _save_at_stop(self) -> None:
        """A complete checkpoint of this very step is left as it is: writing it again could only damage it."""
        complete = self._writer.finish()
        if self._saved != self._state.step or not self._agreed(complete):
            self._save(wait=True)

    def _evaluate_heldout(self, watch: Watch) -> None:
        began = time.perf_counter()
        metrics = self._heldout.measure(watch)
        if not metrics:
            return
        best = self._job.config.infer_as
        loss = metrics[f"heldout/{best}/as_{best}"]
        self._state = replace(self._state, heldout=None if math.isnan(loss) else loss)
        self._reports.metrics(self._state.step, {**metrics, "evaluate/seconds": time.perf_counter() - began})

    def _export(self) -> None:
        from crlft_ray.export import export_model
        from crlft_ray.meeting import meet

        job = self._job
        export_model(
            self._engine.module.model, job.tokenizer, job.config, job.manifest, job.export,
            writes=self._rank == 0, steps=self._state.step,
        )  # fmt: skip
        # Rank 0 may upload for longer than a collective would wait.
        meet("export")
