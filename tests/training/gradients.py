"""Loss and gradient of one global batch: by our ranks, and by a plain loop over conversations in fp64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from crlft_ray.config import validate
from crlft_ray.shards.shard import Pack
from crlft_ray.templates import ChatTokenizer
from tests.synthetic import raw_config

CLASS_WEIGHTS = [1.0, 0.1, 0.0]
VOCABULARY = 300


def packs(seed: int = 0, count: int = 7) -> list[Pack]:
    """Packs of random conversations of three classes with one or two learned spans and message weights."""
    rng = np.random.default_rng(seed)
    return [_pack(rng, int(rng.integers(1, 4))) for _ in range(count)]


def split(whole: Pack) -> list[Pack]:
    """The same conversations, each in a pack of its own."""
    begins = np.cumsum(whole.lengths_C) - whole.lengths_C
    parts = []
    for number, (begin, length) in enumerate(zip(begins, whole.lengths_C, strict=True)):
        mine = whole.span_conversations_S == number
        parts.append(
            Pack(
                input_ids_T=whole.input_ids_T[begin : begin + length],
                lengths_C=np.asarray([length], np.int32),
                classes_C=whole.classes_C[number : number + 1],
                starts_S=whole.starts_S[mine] - begin,
                ends_S=whole.ends_S[mine] - begin,
                weights_S=whole.weights_S[mine],
                span_conversations_S=np.zeros(mine.sum(), np.int32),
            )
        )
    return parts


def _pack(rng: np.random.Generator, conversations: int) -> Pack:
    lengths = rng.integers(6, 40, conversations).astype(np.int32)
    spans: list[tuple[int, int, float, int]] = []
    for number, begin in enumerate((np.cumsum(lengths) - lengths).tolist()):
        middle, end = begin + int(lengths[number]) // 2, begin + int(lengths[number])
        spans.append((begin + 1, middle, 1.0, number))
        if rng.random() < 0.5:
            spans.append((middle + 1, end, 0.5, number))
    starts, ends, weights, owners = zip(*spans, strict=True)
    return Pack(
        rng.integers(0, VOCABULARY, int(lengths.sum())).astype(np.int32), lengths,
        rng.integers(0, len(CLASS_WEIGHTS), conversations).astype(np.int8),
        np.asarray(starts, np.int32), np.asarray(ends, np.int32), np.asarray(weights, np.float32),
        np.asarray(owners, np.int32),
    )  # fmt: skip


def write_model(folder: Path, *, tied: bool) -> Path:
    """A small random Llama without a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def plain_reference(model: Path) -> tuple[float, dict[str, float]]:
    """Loss and norm of each tensor's gradient by transformers' own eager attention, conversation by conversation."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
    numerator, denominator = torch.zeros((), dtype=torch.float64), 0.0
    for one in [part for whole in packs() for part in split(whole)]:
        ids = torch.from_numpy(one.input_ids_T.astype(np.int64))
        ce = F.cross_entropy(reference(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        for start, end, weight in zip(one.starts_S.tolist(), one.ends_S.tolist(), one.weights_S.tolist(), strict=True):
            token_weight = CLASS_WEIGHTS[int(one.classes_C[0])] * weight
            numerator = numerator + token_weight * ce[start - 1 : end - 1].sum()
            denominator += token_weight * (end - start)
    loss = numerator / denominator
    loss.backward()
    norms = {name: float(value.grad.norm()) for name, value in reference.named_parameters() if value.grad is not None}
    return float(loss.detach()), norms


def measure(rank: int, world_size: int, variants: list[tuple[str, str, bool]], results: str) -> None:
    """Loss and gradient norms of the same packs on these ranks, for each (model folder, precision, split)."""
    from deepspeed.utils import safe_get_full_grad

    from crlft_ray.training.engine import build_engine
    from crlft_ray.training.step import Stepper
    from crlft_ray.training.watch import Watch

    measured = []
    tokenizer = ChatTokenizer("", {}, "", "", 128, (), VOCABULARY)
    for model, precision, in_parts in variants:
        config = validate(raw_config(model, "unused", "unused", train={"precision": precision}), "test")
        engine = build_engine(config, model, tokenizer)
        watch = Watch(torch.distributed.distributed_c10d._get_default_store(), rank, world_size, 60)
        stepper = Stepper(engine, CLASS_WEIGHTS, per_sequence=False, watch=watch)
        batch = [part for whole in packs() for part in split(whole)] if in_parts else packs()
        sums = stepper.backward(batch[rank::world_size], -(-len(batch) // world_size))
        norms: dict[str, Any] = {}
        for name, parameter in engine.module.model.named_parameters():
            gradient = safe_get_full_grad(parameter)
            assert gradient is not None, name
            norms[name] = float(gradient.double().norm())
        measured.append({"loss": sums.result(grad_norm=0, skipped="").loss, "norms": norms})
        engine.destroy()
    if rank == 0:
        Path(results).write_text(json.dumps(measured))
