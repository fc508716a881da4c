"""Models that are nothing but a config.json: what a plan may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crlft_ray.config import Config, validate
from tests.synthetic import raw_config

LLAMA_7B: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
PARAMETERS_7B = 6_738_415_616
"""As Llama-2-7B's card and files have it."""


def write_shape(folder: Path, model_type: str = "llama", **settings: Any) -> Path:
    """A model's folder without weights or tokenizer."""
    from transformers import CONFIG_MAPPING

    CONFIG_MAPPING[model_type](**{"tie_word_embeddings": False, **settings}).save_pretrained(folder)
    return folder


def config_of(model: Path, **sections: Any) -> Config:
    """Packs of 8192 tokens, 64 of them a step."""
    data = {"context": 4096, "pack_tokens": 8192, **sections.pop("data", {})}
    train = {"global_batch_tokens": 64 * 8192, **sections.pop("train", {})}
    raw = raw_config(model, model / "run", "unused", data=data, train=train, **sections)
    return validate(raw, "test")
