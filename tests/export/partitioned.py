"""Exports by processes of their own: of a model over two ranks of ZeRO-3, and of one that is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from crlft_ray.config import validate
from crlft_ray.export import export_model
from crlft_ray.export.weights import _give_back_freed_memory, write_weights
from crlft_ray.model.batch import empty_pack, micro_batch
from crlft_ray.model.load import add_tokens, load_model
from crlft_ray.shards.manifest import ClassCounts, Manifest
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, load_chat_tokenizer
from tests.synthetic import raw_config

NO_TOKENIZER = ChatTokenizer("", {}, "", "", 128, (), 0)


def write_large_model(folder: Path) -> Path:
    """About 200 MB in fp32; no parameter is larger than 8 MB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def measure_writing(rank: int, world_size: int, model: str, target: str, max_shard_bytes: int, results: str) -> None:
    """Writes the weights and notes by how many bytes this process grew at most meanwhile."""
    from crlft_ray.training.engine import build_engine

    config = validate(raw_config(model, "unused", "unused", train={"precision": "fp32"}), "test")
    engine = build_engine(config, model, NO_TOKENIZER)
    Path(target).mkdir(exist_ok=True)
    # A forward pass gathers every parameter, as training has done before an export.
    with torch.no_grad():
        engine(micro_batch(empty_pack()))
    # What training freed but the allocator keeps must not make room for what writing needs.
    _give_back_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    write_weights(engine.module.model, Path(target) if rank == 0 else None, max_shard_bytes)
    Path(f"{results}.{rank}").write_text(json.dumps(_resident("VmHWM") - before))


def _resident(field: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def export_and_die(rank: int, world_size: int, model: str, target: str, dies_before: str | None) -> None:
    """Exports with small shard files; is killed when it is about to write the file of a certain name."""
    tokenizer = load_chat_tokenizer(model, "openchat", "GPT4")
    config = validate(raw_config(model, "unused", "unused"), "test")
    loaded = load_model(model, "fp32")
    add_tokens(loaded, tokenizer)

    def die(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(f"/{dies_before}") and str(arguments[0]).startswith(target):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    export_model(loaded, tokenizer, config, manifest(), Place.of(target), max_shard_bytes=4096)


def manifest() -> Manifest:
    """For a model card."""
    classes = [ClassCounts(name, condition, 1, 10, 5, 0) for name, condition in (("expert", "GPT4"), ("mixed", "GPT3"))]
    return Manifest("0" * 64, {"pack_tokens": 512}, classes, {}, 1, 20, 1.0, [], [])
