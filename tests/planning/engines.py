"""What ranks of our real engine hold and send, for comparison with a plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from crlft_ray.config import Config, validate
from crlft_ray.templates import ChatTokenizer
from tests.synthetic import raw_config
from tests.training.gradients import CLASS_WEIGHTS, VOCABULARY, packs

PACK_TOKENS = 128


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    tied: bool
    layers: int
    width: int
    precision: str
    checkpointing: bool
    zero: dict[str, int]

    def write(self, folder: Path) -> Path:
        """A random Llama, some of whose parameters are small enough to stay whole."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=1000, hidden_size=self.width, intermediate_size=8 * self.width, num_hidden_layers=self.layers,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=self.tied,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    def config(self, model: str) -> Config:
        """Eight packs a step; gradients are reduced as on GPUs, which the plan is for."""
        train = {
            "precision": self.precision, "gradient_checkpointing": self.checkpointing,
            "global_batch_tokens": 8 * PACK_TOKENS,
            "deepspeed": {"zero_optimization": {"reduce_scatter": True, **self.zero}},
        }  # fmt: skip
        data = {"context": PACK_TOKENS, "pack_tokens": PACK_TOKENS}
        return validate(raw_config(model, f"{model}/run", "unused", train=train, data=data), "test")


class Sent(TorchDispatchMode):
    """Counts the bytes that this rank sends in collectives, as a ring sends them."""

    def __init__(self, world_size: int) -> None:
        super().__init__()
        self._share = (world_size - 1) / world_size
        self.bytes = dict.fromkeys(("gathered", "reduced", "other"), 0.0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d" and "barrier" not in func._schema.name:
            output, given = _bytes(args[0]), _bytes(args[1]) if len(args) > 1 else 0
            if "allgather" in func._schema.name:
                self.bytes["gathered"] += output * self._share
            elif "reduce_scatter" in func._schema.name:
                self.bytes["reduced"] += given * self._share
            else:
                self.bytes["other"] += 2 * output * self._share
        return func(*args, **(kwargs or {}))


def _bytes(tensors: Any) -> int:
    leaves = pytree.tree_leaves(tensors)
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))


def measure(rank: int, world_size: int, cases: list[tuple[Case, str]], results: str) -> None:
    """Takes two steps, the first of which teaches DeepSpeed the order, and notes what the second one sends."""
    from crlft_ray.checkpoints.snapshot import Snapshots
    from crlft_ray.training.engine import build_engine
    from crlft_ray.training.step import Stepper
    from crlft_ray.training.watch import Watch

    measured = []
    for case, model in cases:
        engine = build_engine(case.config(model), model, ChatTokenizer("", {}, "", "", 128, (), VOCABULARY))
        watch = Watch(torch.distributed.distributed_c10d._get_default_store(), rank, world_size, 60)
        stepper = Stepper(engine, CLASS_WEIGHTS, per_sequence=False, watch=watch)
        batch = packs(count=8)
        stepper.step(batch[rank::world_size], 8 // world_size, 1e-3)
        with Sent(world_size) as sent:
            stepper.step(batch[rank::world_size], 8 // world_size, 1e-3)
        optimizer = engine.optimizer
        measured.append(
            {
                **sent.bytes,
                "parameters": _bytes(optimizer.lp_param_buffer),
                "gradients": _bytes(optimizer.grad_partitions_flat_buffer),
                "optimizer": _bytes([optimizer.fp32_partitioned_groups_flat, list(optimizer.optimizer.state.values())]),
                "bucket": sum(_bytes(bucket.buffer) for bucket in optimizer.ipg_buckets.values()),
                "whole": _bytes([p.data for p in engine.module.parameters() if p.data.numel() == p.ds_numel]),
                "snapshot": _bytes(Snapshots().take(engine)),
            }
        )
        engine.destroy()
    Path(f"{results}.{rank}").write_text(json.dumps(measured))
