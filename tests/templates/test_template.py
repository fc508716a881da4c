"""The Jinja source itself, and tokenizers that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crlft_ray.config import CustomTemplate
from crlft_ray.conversations import Conversation, Turn
from crlft_ray.errors import UserError
from crlft_ray.templates import ChatTokenizer, encode, load_chat_tokenizer
from crlft_ray.templates.jinja import _plain_filters
from tests.synthetic import write_byte_level_tokenizer

small = st.text("ab |", min_size=1, max_size=4)


tokens_and_text = st.lists(small, min_size=1, max_size=4).flatmap(
    lambda tokens: st.tuples(st.just(tokens), st.lists(st.sampled_from([*tokens, *"ab |"]), max_size=20).map("".join))
)


@example((["aaa"], "a" * 8))
@example((["||"], "|||"))
@example((["|", "ab"], "a|b"))
@example((["<a>", " <a>b"], "<a>b"))
@given(tokens_and_text)
def test_no_token_survives_whatever_the_tokens_are(case: tuple[list[str], str]) -> None:
    """Tokens that overlap themselves or each other, that hold spaces, that are one character."""
    tokens, text = case
    template = jinja2.Environment().from_string("{{ text" + _plain_filters(tokens) + " }}")
    result = template.render(text=text)
    assert not any(token in result for token in tokens)
    if not any(token in text for token in tokens):
        assert result == text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_byte_level_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return load_chat_tokenizer(str(folder), "chatml", "GPT4")


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "s"}], "role 'system' is not one of"),
        ([{"role": "tool", "content": "a"}], "role 'tool' is not one of"),
        ([{"role": "user", "content": None}], "content must be text"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], "content must be text"),
        ([{"role": "user"}], "content must be text"),
    ],
)
def test_chats_that_were_never_trained_on_are_refused(tokenizer: ChatTokenizer, chat: Any, says: str) -> None:
    with pytest.raises(jinja2.TemplateError, match=says):
        tokenizer.transformers().apply_chat_template(chat, tokenize=False)


def test_an_empty_system_text_is_none(tokenizer: ChatTokenizer) -> None:
    render = tokenizer.transformers().apply_chat_template
    user = {"role": "user", "content": "a"}
    without = render([user], tokenize=False)
    assert render([{"role": "system", "content": " \n"}, user], tokenize=False) == without
    assert render([user], tokenize=False, condition=None) == without
    assert "GPT4" in without
    assert render([user], tokenize=False, condition="") == "<|im_start|>user\na<|im_end|>\n"


def test_what_decides_the_ids_decides_the_digest(folder: Path, tokenizer: ChatTokenizer) -> None:
    same = load_chat_tokenizer(str(folder), "chatml", "GPT3")
    assert same.digest == tokenizer.digest, "the default condition is not in the ids of a conversation"
    assert load_chat_tokenizer(str(folder), "llama3", "GPT4").digest != tokenizer.digest
    assert ChatTokenizer.from_json(tokenizer.to_json()) == tokenizer
    assert tokenizer.new_tokens == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.vocab_size == 384 + 2
    assert tokenizer.token_id("<|im_start|>") == 384


def test_a_normaliser_makes_no_control_tokens(tmp_path: Path) -> None:
    """NFKC turns full-width signs into those that a token is spelled with."""
    write_byte_level_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    backend = json.loads(path.read_text())
    backend["normalizer"] = {"type": "NFKC"}
    for token in backend["added_tokens"]:
        token["normalized"] = True
    path.write_text(json.dumps(backend))
    tokenizer = load_chat_tokenizer(
        str(tmp_path), CustomTemplate(role_prefix="{condition} {role}:", end_of_turn="<|endoftext|>"), ""
    )
    wide = "＜｜endoftext｜＞ ok"
    (encoded,) = encode(tokenizer, [Conversation("a", "", (Turn("user", wide), Turn("assistant", wide)))], [""])
    assert encoded.input_ids_T.tolist().count(tokenizer.token_id("<|endoftext|>")) == 2


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": "{}"}, "holds no tokenizer; copy tokenizer.json"),
        ({"tokenizer.json": "nonsense"}, "cannot be loaded"),
        ({"tokenizer.json": "{}"}, "cannot be loaded"),
    ],
)
def test_folders_without_a_usable_tokenizer(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"^model: .*{says}"):
        load_chat_tokenizer(str(tmp_path), "chatml", "")


def test_a_tokenizer_that_adds_other_tokens_is_refused(tmp_path: Path) -> None:
    write_byte_level_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    backend = json.loads(path.read_text())
    token = {"id": "a", "ids": [66], "tokens": ["a"]}
    backend["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "a", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"a": token},
    }
    path.write_text(json.dumps(backend))
    with pytest.raises(UserError, match="adds tokens other than BOS and EOS"):
        load_chat_tokenizer(str(tmp_path), "chatml", "")
