"""Loads models for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from crlft_ray.model import attention
from crlft_ray.templates import ChatTokenizer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_model(model: str, precision: str) -> Any:
    """The transformers model with our attention; under an active `HfDeepSpeedConfig` its parameters are partitioned."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        model, dtype=DTYPES[precision], attn_implementation=attention.register()
    )


def add_tokens(model: Any, tokenizer: ChatTokenizer) -> None:
    """Gives the tokenizer's new tokens the mean of the known embeddings, and of the known output rows.

    The embedding grows only where the model has no spare rows. Works on partitioned parameters; collective.
    """
    if not tokenizer.new_tokens:
        return
    new_ids = [tokenizer.token_id(token) for token in tokenizer.new_tokens]
    if tokenizer.vocab_size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    weights = [model.get_input_embeddings().weight]
    if model.get_output_embeddings().weight is not weights[0]:
        weights.append(model.get_output_embeddings().weight)
    for weight in weights:
        _set_to_mean(weight, new_ids)


def _set_to_mean(weight: torch.nn.Parameter, new_ids: Sequence[int]) -> None:
    if not hasattr(weight, "ds_id"):
        _mean_rows(weight, new_ids)
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
        if torch.distributed.get_rank() == 0:
            _mean_rows(weight, new_ids)


def _mean_rows(weight: torch.nn.Parameter, new_ids: Sequence[int]) -> None:
    with torch.no_grad():
        weight[list(new_ids)] = weight[: min(new_ids)].float().mean(dim=0).to(weight.dtype)
