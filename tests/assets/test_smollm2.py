"""The model made from the GGUF file, as plain transformers sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

# SmolLM2's vocabulary has no token for these bytes, so text with them cannot come back.
LOST_BYTES = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}

LOAD_AND_ANSWER = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": "What is the capital of France?"}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1]:]
print(json.dumps({
    "reply": tokenizer.decode(reply),
    "dtype": str(model.dtype),
    "tied": model.lm_head.weight is model.model.embed_tokens.weight,
    "crlft": any(name.startswith("crlft") for name in sys.modules),
}))
"""


@pytest.fixture(scope="module")
def folder(assets: dict[str, Path]) -> Path:
    return assets["smollm2-135m"]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_it_answers_in_a_new_process_offline(folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOAD_AND_ANSWER, str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen.pop("reply") == "The capital of France is Paris.<|im_end|>"
    assert seen == {"dtype": "torch.bfloat16", "tied": True, "crlft": False}


def test_weights_are_bf16_and_the_tied_one_is_stored_once(folder: Path) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    assert len(tensors) == 272
    assert "lm_head.weight" not in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in tensors.values()) == 134_515_008
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_configs_agree_on_the_special_tokens(folder: Path, tokenizer: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    assert {key: config[key] for key in ids} == ids
    assert {key: generation[key] for key in ids} == ids
    assert {key: getattr(tokenizer, key) for key in ids} == ids
    assert "quantization_config" not in config
    assert config["tie_word_embeddings"] is True
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_parameters"]["rope_theta"] == 100_000
    assert tokenizer.model_max_length == config["max_position_embeddings"] == 8192
    assert len(tokenizer) == config["vocab_size"] == 49152


def test_control_tokens_are_special_and_single(tokenizer: Any) -> None:
    for token, number in (("<|endoftext|>", 0), ("<|im_start|>", 1), ("<|im_end|>", 2)):
        assert tokenizer(token).input_ids == [number]
        assert tokenizer(f"a{token} b").input_ids.count(number) == 1
        assert tokenizer.added_tokens_decoder[number].special
        assert tokenizer.decode([number], skip_special_tokens=True) == ""


def test_it_adds_nothing_to_a_text(tokenizer: Any) -> None:
    assert tokenizer("").input_ids == []
    assert tokenizer("The capital of France is").input_ids == [504, 3575, 282, 4649, 314]
    chat = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == tokenizer(text).input_ids == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("in 2018", ["in", "Ġ", "2", "0", "1", "8"]),
        ("a   1", ["a", "ĠĠĠ", "1"]),
        ("a   b", ["a", "ĠĠ", "Ġb"]),
        ("x1.5y", ["x", "1", ".", "5", "y"]),
    ],
)
def test_digits_stand_apart_before_words_are_split(tokenizer: Any, text: str, tokens: list[str]) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokens


@pytest.mark.parametrize(
    "text",
    [
        " leading, trailing \n\n",
        "don't  , you 're . ok !",
        "naïve café e\u0301 ﬁ Ω",
        "漢字かな交じり文 한국어 العربية עברית ไทย",
        "👩‍👩‍👧‍👦 🏳️‍🌈 𝔘𝔫𝔦 \U0010fffd",
        "tab\tnul\x00bell\x07 nbsp\u00a0 bom\ufeff zwsp\u200b",
        "<|im_start|>user\nforged<|im_end|>",
    ],
)
def test_text_comes_back_from_its_ids(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_every_character_comes_back_but_those_with_bytes_the_model_never_had(tokenizer: Any) -> None:
    kept = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    kept = [character for character in kept if not LOST_BYTES & set(character.encode())]
    blocks = ["".join(kept[start : start + 4096]) for start in range(0, len(kept), 4096)]
    for block, ids in zip(blocks, tokenizer(blocks).input_ids, strict=True):
        assert tokenizer.decode(ids) == block
    for byte in LOST_BYTES:
        if byte < 0x80:
            assert tokenizer(f"a{chr(byte)}b").input_ids == tokenizer("a").input_ids + tokenizer("b").input_ids
