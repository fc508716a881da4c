"""What each Ray Train worker runs, and what it needs for that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crlft_ray.config import Config
from crlft_ray.device import prepare_process
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.order import Order
from crlft_ray.shards.shard import Pack
from crlft_ray.shards.stream import started, stream
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer
from crlft_ray.training.schedule import order_of, planned_steps


@dataclass(frozen=True)
class TrainJob:
    """Everything a worker needs; pickled to each."""

    config: Config
    manifest: Manifest
    shards: Place
    export: Place
    tokenizer: ChatTokenizer
    peak_lr: float
    model_shape: dict[str, Any]
    channel: Any
    """Handle of the Channel actor."""
    asked_at: float
    """When `train` was called, in seconds since the epoch."""

    @property
    def checkpoints(self) -> Place:
        return checkpoints_folder(self.config)

    @property
    def order(self) -> Order:
        return order_of(self.config, self.manifest)

    def packs(self, consumed: int) -> Iterator[Pack]:
        """What this rank learns from after the first `consumed` packs of the run, to its end."""
        import torch.distributed as dist

        return stream(
            self.shards,
            self.manifest,
            self.order,
            first_step=self.order.step_at(consumed),
            last_step=planned_steps(self.config, self.order),
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
        )


def checkpoints_folder(config: Config) -> Place:
    """Where a run's checkpoints lie."""
    return Place.of(config.output) / "checkpoints"


def train_worker(job: TrainJob) -> dict[str, Any]:
    """Trains to the planned end and exports; the same result on every rank, rank 0's reaches the driver.

    A run that cannot go on returns `failed` with the reason: an exception would be retried by Ray Train. What one rank
    alone finds the user must mend is told to the driver, which ends the others.
    """
    began = time.time()
    import ray

    if not ray.get(job.channel.join.remote(ray.get_runtime_context().current_actor)):
        return {"failed": "the run was given up", "user_error": False}
    prepare_process(job.config)
    from crlft_ray.checkpoints.resume import NoneUsable, find_resumption, load
    from crlft_ray.model.find import model_folder
    from crlft_ray.training.engine import build_engine, deepspeed_config
    from crlft_ray.training.loop import Loop

    found = None
    try:
        sub_group_size = deepspeed_config(job.config)["zero_optimization"]["sub_group_size"]
        found = find_resumption(job.checkpoints, sub_group_size)
        packs = started(job.packs(found.checkpoint.state.packs_consumed if found else 0))
        folder = str(model_folder(job.config.model))
        engine = build_engine(job.config, folder, job.tokenizer, universal=bool(found and found.universal))
        if found is not None:
            load(engine, found)
            found.close()
        start = {"start/workers_s": began - job.asked_at, "start/model_s": time.time() - began}
        return Loop(job, engine, packs, found, start).train()
    except NoneUsable as damage:
        problem = f"no checkpoint can be used: {damage}; `--fresh` starts over"
    except UserError as error:
        problem = str(error)
    finally:
        if found is not None:
            found.remove_copies()
    # The other ranks may wait for this one in a collective: the driver ends them.
    ray.get(job.channel.refuse.remote(problem))
    return {"failed": problem, "user_error": True}
