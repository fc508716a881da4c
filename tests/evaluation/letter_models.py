"""Questions with letters, and small real models that are asked them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from crlft_ray.assets.agieval import TASKS
from crlft_ray.evaluation.suites import Suite
from crlft_ray.evaluation.suites.letters import load_letters

Rows = list[dict[str, Any]]

PASSAGE = "The harbour was quiet, and nobody who stood on the long pier that morning spoke of the storm. " * 4
WORDS = ["river", "stone", "lamp", "engine", "window", "garden", "letter", "winter", "copper", "singer", "bridge"]
SPACE = (  # one space between prompt and answer; BOS first
    "{{ bos_token }}{% for m in messages %}{{ condition | default('GPT4') }} {{ m.role }}: {{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}{{ condition | default('GPT4') }} assistant:{% endif %}"
)
NEWLINE = (  # nothing between them; no BOS
    "{% for m in messages %}<|{{ condition | default('GPT4') }} {{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|{{ condition | default('GPT4') }} assistant|>\n{% endif %}"
)


def make_rows(task: str, count: int = 5) -> Rows:
    """Questions of 3 to 5 options; those of sat-en share a passage."""
    dice = random.Random(task)
    rows: Rows = []
    for number in range(count):
        letters = "ABCDE"[: 3 + number % 3]
        options = " ".join(f"({letter}){dice.choice(WORDS)}" for letter in letters)
        text = f"Q: Which {dice.choice(WORDS)} is {dice.choice(WORDS)} number {number}? {options}\nA: The answer is"
        rows.append(
            {
                "question": PASSAGE + text if task == "sat-en" else text,
                "label": [dice.choice(letters)],
                "options": list(letters),
            }
        )
    return rows


def write_rows(folder: Path, task: str, rows: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def letter_suite(folder: Path, limit: int | None = None) -> Suite:
    """The questions of a folder as AGIEval's."""
    questions = load_letters(folder, TASKS, passages=True)
    kept = [[q for q in questions if q.task == task][:limit] for task in TASKS]
    return Suite("agieval", "letters", tuple(q for task in kept for q in task), folder)


def write_model(
    folder: Path,
    template: str | None = SPACE,
    *,
    adds_bos: bool = True,
    merges_letter: bool = False,
    hidden: int = 16,
    seed: int = 0,
) -> Path:
    """A Llama with random weights and a byte-level BPE tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "<|end|>"]
    if merges_letter:
        pieces = [*specials, *alphabet, "ĠA", ":ĠA"]
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "A"), (":", "ĠA")]))
        tokenizer.add_special_tokens(specials)
    else:
        tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merges_letter)
    tokenizer.decoder = decoders.ByteLevel()
    if not merges_letter:
        trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=specials, initial_alphabet=alphabet)
        texts = [row["question"] for task in TASKS for row in make_rows(task)]
        tokenizer.train_from_iterator([*texts, *(f" {letter}" * 40 for letter in "ABCDE")], trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>")
    fast.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=hidden * 3 // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=1.6 / hidden**0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
