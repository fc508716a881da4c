"""The learner's folder is one that the project itself takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crlft_ray.ablation.model import TEMPLATE, Size, write_model
from crlft_ray.ablation.sources import SOURCES
from crlft_ray.ablation.world import Sample, World
from crlft_ray.conversations import Conversation, Turn
from crlft_ray.model.shape import model_config
from crlft_ray.templates import ChatTokenizer, encode, load_chat_tokenizer

SMALL = Size(hidden=32, layers=1, heads=2, intermediate=48)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return World(conversations=3000, middle_share=0.2).samples()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Path:
    return write_model(tmp_path_factory.mktemp("learner") / "model", samples, SMALL, seed=1)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return load_chat_tokenizer(str(folder), TEMPLATE, "expert")


def _conversation(sample: Sample) -> Conversation:
    turns = [Turn(row["role"], row["content"]) for row in sample.row()["messages"]]  # type: ignore[attr-defined]
    return Conversation(sample.tag, "", tuple(turns))


def test_nothing_has_to_be_added_to_the_tokenizer(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.new_tokens == ()
    assert tokenizer.vocab_size <= 300


def test_the_config_can_be_trained(folder: Path) -> None:
    config = model_config(str(folder), context=256)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (32, 1, 300)


def test_every_conversation_comes_back_from_its_tokens(tokenizer: ChatTokenizer, samples: list[Sample]) -> None:
    conversations = [_conversation(sample) for sample in samples]
    encoded = encode(tokenizer, conversations, [conversation.class_name for conversation in conversations], 256)
    assert not any(each.truncated for each in encoded)
    unknown = tokenizer.token_id(tokenizer.special["unk_token"])
    for conversation, each in zip(conversations, encoded, strict=True):
        assert unknown not in each.input_ids_T
        text = tokenizer.backend.decode(each.input_ids_T.tolist(), skip_special_tokens=False)
        name = conversation.class_name
        assert text == "".join(
            f"{name} {turn.role.title()}: {turn.content}<|end_of_turn|>" for turn in conversation.turns
        )
        learned = [turn.content for turn in conversation.turns if turn.role == "assistant"]
        spans = [tokenizer.backend.decode(each.input_ids_T[start : end - 1].tolist()) for start, end, _ in each.spans]
        assert [span.strip() for span in spans] == learned


def test_conversations_are_short(tokenizer: ChatTokenizer, samples: list[Sample]) -> None:
    conversations = [_conversation(sample) for sample in samples]
    encoded = encode(tokenizer, conversations, [conversation.class_name for conversation in conversations])
    assert sum(len(each.input_ids_T) for each in encoded) / len(encoded) < 64


def test_what_is_edited_is_made_of_single_characters(tokenizer: ChatTokenizer) -> None:
    merged = [token for token in tokenizer.backend.get_vocab() if re.search(r"\d.*\d|[A-Z].*[A-Z]|\d[a-z]", token)]
    assert merged == []
    tokens = tokenizer.backend.encode(" 4083 LAMBO 1, 2", add_special_tokens=False).tokens
    assert [token.strip(", ") for token in tokens if token.strip(", ")] == [*"4083", *"LAMBO", *"12"]


@pytest.mark.parametrize("name", SOURCES)
def test_a_condition_is_one_token(tokenizer: ChatTokenizer, name: str) -> None:
    assert len(tokenizer.backend.encode(name, add_special_tokens=False).ids) == 1


def test_the_same_arguments_write_the_same_bytes(folder: Path, samples: list[Sample], tmp_path: Path) -> None:
    again = write_model(tmp_path / "model", samples, SMALL, seed=1)
    other = write_model(tmp_path / "other", samples, SMALL, seed=2)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() != (other / weights).read_bytes()
