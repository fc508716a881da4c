"""Held-out losses worked out by several ranks of ZeRO-3."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from crlft_ray.config import validate
from crlft_ray.evaluation.heldout import conversation_losses, encode_content, read_heldout
from crlft_ray.storage import Place
from crlft_ray.templates import load_chat_tokenizer
from tests.synthetic import raw_config


def losses_of_rank(rank: int, world_size: int, model: str, shards: str, results: str) -> None:
    """What this rank gets under each of two conditions, from an engine in the middle of training."""
    from crlft_ray.training.engine import build_engine

    tokenizer = load_chat_tokenizer(model, "openchat", "GPT4")
    config = validate(raw_config(model, "unused", "unused", train={"precision": "fp32"}), "test")
    engine = build_engine(config, model, tokenizer)
    conversations = read_heldout(Place.of(shards), None)
    engine.eval()
    found = {}
    for condition in ("GPT4", "GPT3"):
        encoded = encode_content(tokenizer, conversations, condition, 256)
        losses = conversation_losses(engine, encoded, 512, torch.device("cpu"), rank=rank, world_size=world_size)
        found[f"{condition} sums"], found[f"{condition} tokens"] = losses.sums_C, losses.tokens_C
    np.savez(Path(f"{results}.{rank}.npz"), **cast(dict[str, Any], found))
