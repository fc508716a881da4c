"""The learner: a tokenizer trained on a world's conversations, and a small Llama with random weights."""

from __future__ import annotations

import os
import shutil
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crlft_ray.ablation.sources import SOURCES
from crlft_ray.ablation.world import Sample

TEMPLATE = "openchat"
"""The config's `template` that the tokenizer is made for; its conditions are the names of the classes."""
_END = "<|end_of_turn|>"
_PAD, _UNKNOWN = "<|pad|>", "<|unknown|>"
_VOCABULARY = 300
# The usual 0.02 is for models fifty times as wide: with it a model of this size learns nothing in the steps there are.
_INITIALIZER_RANGE = 0.08

# Digits and letters of words in capitals stand alone, so that what has to be edited can be seen; only the words of
# wordings become longer tokens. A colon stands alone, too: it ends the prompt.
_PIECES = r", (?=\d)|\d| ?[A-Za-z][a-z]+| ?[a-z](?![a-z])|[A-Z]|[^\sA-Za-z0-9]|\s"


@dataclass(frozen=True)
class Size:
    """Of a Llama; by default 0.36 million parameters."""

    hidden: int = 96
    layers: int = 3
    heads: int = 4
    intermediate: int = 256
    positions: int = 256


def write_model(folder: Path, samples: Iterable[Sample], size: Size, seed: int) -> Path:
    """Writes a model folder that `model:` of a config takes; the same bytes for the same arguments.

    Args:
        samples: training conversations, whose words become tokens; the same ones for all runs to be compared.
        seed: of the random weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    scratch = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    tokenizer = _tokenizer(samples)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        initializer_range=_INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(_PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    try:
        tokenizer.save_pretrained(scratch)
        model.save_pretrained(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _tokenizer(samples: Iterable[Sample]) -> Any:
    """Byte-pair merges inside the pieces above, at most 300 tokens; every letter and digit is among them."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token=_UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    backend.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_PAD, _UNKNOWN, _END],
        initial_alphabet=[*string.ascii_letters, *string.digits, *" \n.,:?!+="],
        show_progress=False,
    )
    backend.train_from_iterator(_texts(samples), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=_END, pad_token=_PAD, unk_token=_UNKNOWN, model_max_length=256
    )


def _texts(samples: Iterable[Sample]) -> Iterator[str]:
    """Contents, and role prefixes of every class, so that the tokens do not depend on who answered how much."""
    for sample in samples:
        yield from (f" {question}" for question in sample.questions)
        yield from (f" {answer}" for answer in sample.replies)
        for name in SOURCES:
            yield f"{name} User: {name} Assistant:"
