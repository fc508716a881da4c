"""Which models are taken, and what their new tokens begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crlft_ray.errors import UserError
from crlft_ray.model.load import add_tokens, load_model
from crlft_ray.model.shape import model_config
from crlft_ray.templates import ChatTokenizer, load_chat_tokenizer
from tests.model.new_tokens import IDS, NEW_TOKENS, add_on_rank, tokenizer_with_new_tokens
from tests.training.gradients import VOCABULARY, write_model
from tests.training.ranks import run_ranks


def _write(folder: Path, model_type: str, **settings: Any) -> str:
    from transformers import CONFIG_MAPPING

    CONFIG_MAPPING[model_type](**settings).save_pretrained(folder)
    return str(folder)


REFUSED = [
    ("mistral", {"sliding_window": 128}, "sliding-window attention of 128 tokens"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}, "sliding-window"),
    ("gemma2", {"sliding_window": 4096}, "soft-capped attention"),
    ("gemma2", {"sliding_window": 64}, "sliding-window"),
    ("gemma2", {"attn_logit_softcapping": None}, "soft-capped logits"),
    ("gpt_oss", {"sliding_window": 64}, "sliding-window"),
    ("gpt_oss", {"sliding_window": 4096}, "attention sinks"),
    ("granite", {"logits_scaling": 8.0}, "scaled logits"),
    ("cohere", {}, "scaled logits"),
    ("llama4_text", {}, "chunked_attention"),
    ("bloom", {}, "attention code of its own"),
    ("mamba", {}, "attention code of its own"),
    ("t5", {}, "an encoder"),
    ("vit", {}, "no causal language model"),
]


@pytest.mark.parametrize(("model_type", "settings", "reason"), REFUSED)
def test_models_that_packing_does_not_reproduce(
    model_type: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        model_config(_write(tmp_path, model_type, **settings), 256)
    message = str(error.value)
    assert message.startswith(f"model: {tmp_path} ({model_type}) has ")
    assert reason in message
    assert "use a model with full causal attention" in message


DROPOUTS = [
    ("llama", {"attention_dropout": 0.1}, "attention_dropout: 0.1"),
    ("gpt2", {}, "attn_pdrop: 0.1"),
    ("roberta", {"is_decoder": True}, "attention_probs_dropout_prob: 0.1"),
]


@pytest.mark.parametrize(("model_type", "settings", "found"), DROPOUTS)
def test_dropout_in_attention(model_type: str, settings: dict[str, Any], found: str, tmp_path: Path) -> None:
    model, key = _write(tmp_path, model_type, **settings), found.partition(":")[0]
    with pytest.raises(UserError) as error:
        model_config(model, 256)
    message = str(error.value)
    assert message.startswith(f"model: {tmp_path} ({model_type}) has dropout in attention ({found})")
    assert message.endswith(f"set {key} to 0 in the model's config.json")
    # Where nothing is trained, there is none.
    assert model_config(model, 256, to_train=False).model_type == model_type
    _write(tmp_path, model_type, **{**settings, key: 0.0})
    assert model_config(model, 256).model_type == model_type


ACCEPTED = [
    ("mistral", {"sliding_window": 256}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"use_sliding_window": False, "sliding_window": 64}),
    ("qwen3", {}),
    ("llama", {}),
    ("gemma", {}),
    ("granite", {"logits_scaling": 1.0}),
    ("gpt_neox", {}),
]


@pytest.mark.parametrize(("model_type", "settings"), ACCEPTED)
def test_models_that_are_taken(model_type: str, settings: dict[str, Any], tmp_path: Path) -> None:
    assert model_config(_write(tmp_path, model_type, **settings), 256).model_type == model_type


def test_a_context_beyond_the_positions(tmp_path: Path) -> None:
    model = _write(tmp_path, "llama", max_position_embeddings=128)
    assert model_config(model, 128)
    with pytest.raises(UserError, match=r"data.context: 129 is more than the 128 positions that .* knows"):
        model_config(model, 129)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    for content in (None, "{", "{}", json.dumps({"model_type": "nothing-known"})):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=f"model: {tmp_path} cannot be loaded: ."):
            model_config(str(tmp_path), 256)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": "much"}, "Validation error for field 'hidden_size': TypeError: .* expected int, got str"),
        ({"num_attention_heads": 7}, ".*validator 'validate_architecture': ValueError: .*not a multiple of"),
        ({"num_attention_heads": 0}, "ZeroDivisionError: ."),
        ({"dtype": "float99"}, "AttributeError: .*'float99'"),
    ],
)
def test_a_config_with_a_wrong_value(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Its tokenizer, which takes it from there what it is, is refused in the same way."""
    _write(tmp_path, "llama")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=f"^model: {tmp_path} cannot be loaded: {reason}") as error:
        model_config(str(tmp_path), 256)
    with pytest.raises(UserError, match=f"^model: the tokenizer of {tmp_path} cannot be loaded: {reason}"):
        load_chat_tokenizer(str(tmp_path), "openchat", "")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_begin_as_the_mean(tied: bool, tmp_path: Path) -> None:
    model = load_model(str(write_model(tmp_path, tied=tied)), "fp32")
    before = [w.detach().clone() for w in (model.model.embed_tokens.weight, model.lm_head.weight)]
    add_tokens(model, tokenizer_with_new_tokens())
    after = (model.model.embed_tokens.weight, model.lm_head.weight)
    assert (after[0] is after[1]) == tied
    assert model.config.vocab_size == VOCABULARY + len(NEW_TOKENS)
    for old, new in zip(before, after, strict=True):
        assert new.shape[0] == VOCABULARY + len(NEW_TOKENS)
        assert torch.equal(new[:VOCABULARY], old)
        for number in IDS:
            torch.testing.assert_close(new[number], old.double().mean(0).float(), rtol=1e-5, atol=1e-7)


def test_spare_rows_are_used_before_the_embedding_grows(tmp_path: Path) -> None:
    """A model whose embedding is longer than its tokenizer, as many are: the rows of no token do not count."""
    model = load_model(str(write_model(tmp_path, tied=True)), "fp32")
    known = VOCABULARY - 10
    tokenizer = tokenizer_with_new_tokens(known)
    before = model.model.embed_tokens.weight.detach().clone()
    add_tokens(model, tokenizer)
    after = model.model.embed_tokens.weight
    assert after.shape == before.shape
    torch.testing.assert_close(after[known], before[:known].mean(0))
    torch.testing.assert_close(after[known + 1], before[:known].mean(0))
    assert torch.equal(after[known + 2 :], before[known + 2 :])


def test_a_tokenizer_without_new_tokens_changes_nothing(tmp_path: Path) -> None:
    model = load_model(str(write_model(tmp_path, tied=True)), "fp32")
    before = model.model.embed_tokens.weight.detach().clone()
    add_tokens(model, ChatTokenizer("", {}, "", "", 128, (), VOCABULARY))
    assert torch.equal(model.model.embed_tokens.weight, before)


@pytest.mark.slow
def test_new_tokens_of_a_partitioned_model(tmp_path: Path) -> None:
    """Two ranks of ZeRO-3 end up with the rows that one process has, tied and untied, grown and spare."""
    folders = {tied: write_model(tmp_path / str(tied), tied=tied) for tied in (True, False)}
    cases = [(tied, known) for tied in folders for known in (VOCABULARY, VOCABULARY - 10)]
    models = [(str(folders[tied]), known) for tied, known in cases]
    run_ranks(2, tmp_path, add_on_rank, models, str(tmp_path / "rows"))
    for rank in range(2):
        found = torch.load(tmp_path / f"rows.{rank}")
        for (tied, known), rows in zip(cases, found, strict=True):
            model = load_model(str(folders[tied]), "fp32")
            add_tokens(model, tokenizer_with_new_tokens(known))
            for name in ("model.embed_tokens.weight", "lm_head.weight"):
                assert torch.equal(rows[name], model.state_dict()[name]), (rank, tied, known, name)
            assert rows["tied"] == tied
