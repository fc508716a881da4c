"""Synthetic data: conversations and a model, small and the same on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "a",
    "one",
    "two",
    "river",
    "house",
    "code",
    "answer",
    "question",
    "number",
    "light",
    "Ray",
    "cluster",
    "token",
    "weight",
    "learn",
    "better",
    "worse",
    "very",
    "quick",
    "slow",
    "because",
    "therefore",
    "maybe",
    "never",
    "always",
    "7",
    "42",
    "1984",
    "über",
    "naïve",
    "東京",
    "привет",
    "🙂",
    "don't",
    "can't",
    "x=1",
    "{}",
    "<b>",
]


def sentence(rng: random.Random, shortest: int = 3, longest: int = 40) -> str:
    """Some words."""
    return " ".join(rng.choices(WORDS, k=rng.randint(shortest, longest)))


def rows(count: int, seed: int = 0, longest: int = 40) -> Iterator[dict[str, Any]]:
    """Conversations in the `messages` format, with a `rating` from 1 to 10; no two alike."""
    rng = random.Random(seed)
    for number in range(count):
        messages = [{"role": "system", "content": sentence(rng)}] if rng.random() < 0.2 else []
        for turn in range(rng.randint(1, 4)):
            opening = f"{seed}-{number}-{turn} "
            messages.append({"role": "user", "content": opening + sentence(rng, longest=longest)})
            messages.append({"role": "assistant", "content": sentence(rng, longest=longest)})
        yield {"messages": messages, "rating": rng.randint(1, 10)}


def write_conversations(path: Path, count: int, seed: int = 0, longest: int = 40) -> Path:
    """Writes `rows` as JSONL."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(count, seed, longest))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def raw_config(model: Path | str, output: Path | str, source: Path | str, /, **sections: Any) -> dict[str, Any]:
    """A small valid config over one file of `write_conversations`; `sections` are merged over it."""
    raw: dict[str, Any] = {
        "model": str(model),
        "output": str(output),
        "classes": {"expert": {"condition": "GPT4", "weight": 1.0}, "mixed": {"condition": "GPT3", "weight": 0.1}},
        "infer_as": "expert",
        "data": {
            "sources": [
                {"path": str(source), "class": {"field": "rating", "ranges": {"expert": [8, 10], "mixed": [1, 7]}}}
            ],
            "context": 256,
            "pack_tokens": 512,
        },
        "train": {"global_batch_tokens": 2048, "precision": "bf16"},
    }
    for name, section in sections.items():
        both = isinstance(section, dict) and isinstance(raw.get(name), dict)
        raw[name] = {**raw[name], **section} if both else section
    return raw


def write_tiny_model(folder: Path) -> Path:
    """A Llama model with tied embeddings, random but always the same, and a tokenizer trained on `rows`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = write_byte_level_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_byte_level_tokenizer(folder: Path, *, adds_bos: bool = False) -> int:
    """A byte-level BPE tokenizer, with or without a post-processor that writes BOS; returns its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message["content"] for row in rows(50) for message in row["messages"]]
    tokenizer.train_from_iterator([*texts, "GPT4 User: GPT3 Assistant: "], trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=512
    )
    fast.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())
