"""Steps on two real ranks of ZeRO-3, some of which must not change the weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crlft_ray.config import validate
from crlft_ray.shards.shard import Pack
from crlft_ray.templates import ChatTokenizer
from tests.synthetic import raw_config
from tests.training.gradients import VOCABULARY, packs

WEIGHTS = [1.0, 0.1, 0.0]


def take_steps(rank: int, world_size: int, model: str, results: str) -> None:
    """In both precisions: a plain step, some that are to be skipped, and plain ones again."""
    found = {precision: _take_steps(rank, world_size, model, precision) for precision in ("fp32", "bf16")}
    Path(f"{results}.{rank}").write_text(json.dumps(found))


def _take_steps(rank: int, world_size: int, model: str, precision: str) -> dict[str, Any]:
    from crlft_ray.training.engine import build_engine
    from crlft_ray.training.step import Stepper
    from crlft_ray.training.watch import Watch

    tokenizer = ChatTokenizer("", {}, "", "", 128, (), VOCABULARY)
    config = validate(raw_config(model, "unused", "unused", train={"precision": precision}), "test")
    engine = build_engine(config, model, tokenizer)
    groups = _groups(engine)
    watch = Watch(torch.distributed.distributed_c10d._get_default_store(), rank, world_size, 60)
    stepper = Stepper(engine, WEIGHTS, per_sequence=False, watch=watch)
    found = []
    for kind in ("plain", "no weight", "broken", "no weight", "plain", "second rank empty"):
        chosen = {"no weight": _without_weight, "broken": _broken}.get(kind, lambda batch: batch)(packs(count=4))
        mine = chosen[rank::world_size] if kind != "second rank empty" else chosen[:2] if rank == 0 else []
        result = stepper.step(mine, 2, 1e-2)
        found.append({"kind": kind, **asdict(result), "weights": _digest(engine)})
    engine.destroy()
    return {"steps": found, "groups": groups}


def _without_weight(batch: list[Pack]) -> list[Pack]:
    return [replace(pack, classes_C=np.full_like(pack.classes_C, 2)) for pack in batch]


def _broken(batch: list[Pack]) -> list[Pack]:
    """One message of the first rank has a weight that no number can hold."""
    weights = batch[0].weights_S.copy()
    weights[0] = np.inf
    first = replace(batch[0], weights_S=weights, classes_C=np.zeros_like(batch[0].classes_C))
    return [first, *batch[1:]]


def _groups(engine: Any) -> list[tuple[float, list[str]]]:
    """Weight decay of each parameter group, and its parameters' names."""
    names = {id(parameter): name for name, parameter in engine.module.model.named_parameters()}
    given = engine.optimizer.param_groups
    # DeepSpeed swaps each group's parameters for its own flat ones, in the same order.
    fp16 = engine.optimizer.fp16_groups
    numbers = engine.optimizer.sub_group_to_group_id
    found: dict[int, list[str]] = {}
    for sub_group, parameters in enumerate(fp16):
        found.setdefault(numbers[sub_group], []).extend(names[id(parameter)] for parameter in parameters)
    return [(group["weight_decay"], sorted(found[number])) for number, group in enumerate(given)]


def _digest(engine: Any) -> str:
    """Of this rank's fp32 weights."""
    digest = hashlib.sha256()
    for flat in engine.optimizer.fp32_partitioned_groups_flat:
        digest.update(flat.detach().numpy().tobytes())
    return digest.hexdigest()
