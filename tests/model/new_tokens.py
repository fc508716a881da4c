"""New tokens, added on ranks of ZeRO-3."""

from __future__ import annotations

from typing import Any

import torch

from crlft_ray.config import validate
from crlft_ray.templates import ChatTokenizer
from tests.synthetic import raw_config
from tests.training.gradients import VOCABULARY

NEW_TOKENS = ("<|start|>", "<|end_of_turn|>")
IDS = range(VOCABULARY, VOCABULARY + len(NEW_TOKENS))


def tokenizer_with_new_tokens(known: int = VOCABULARY) -> ChatTokenizer:
    """A tokenizer of `known` tokens that had two added."""
    from tokenizers import Tokenizer, models

    names = [*(f"t{number}" for number in range(known)), *NEW_TOKENS]
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="t0"))
    return ChatTokenizer(backend.to_str(), {"eos_token": NEW_TOKENS[1]}, "", "", 128, NEW_TOKENS, len(names))


def add_on_rank(rank: int, world_size: int, models: list[tuple[str, int]], results: str) -> None:
    """Builds each model's engine and keeps its gathered embedding and output rows."""
    import deepspeed

    from crlft_ray.training.engine import build_engine

    found: list[dict[str, Any]] = []
    for model, known in models:
        config = validate(raw_config(model, "unused", "unused", train={"precision": "fp32"}), "test")
        engine = build_engine(config, model, tokenizer_with_new_tokens(known))
        embedding = engine.module.model.model.embed_tokens.weight
        output = engine.module.model.lm_head.weight
        with deepspeed.zero.GatheredParameters([embedding] if output is embedding else [embedding, output]):
            found.append(
                {
                    "model.embed_tokens.weight": embedding.detach().clone(),
                    "lm_head.weight": output.detach().clone(),
                    "tied": output is embedding,
                }
            )
        engine.destroy()
    torch.save(found, f"{results}.{rank}")
