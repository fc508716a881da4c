"""Tokenising only what the context holds gives the beginning of tokenising everything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.conversations import Conversation, Turn
from crlft_ray.templates import ChatTokenizer, encode, load_chat_tokenizer
from crlft_ray.templates.encode import _head
from tests.synthetic import write_byte_level_tokenizer
from tests.templates.expected import random_conversation


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_byte_level_tokenizer(folder)
    return load_chat_tokenizer(str(folder), "chatml", "GPT4")


@given(st.lists(st.integers(0, 10**9).map(lambda seed: random_conversation(random.Random(seed))), max_size=4),
       st.integers(1, 200))  # fmt: skip
def test_any_context(tokenizer: ChatTokenizer, conversations: list[Conversation], context: int) -> None:
    conditions = ["GPT4"] * len(conversations)
    everything = encode(tokenizer, conversations, conditions)
    for whole, part in zip(everything, encode(tokenizer, conversations, conditions, context), strict=True):
        assert part.input_ids_T.tolist() == whole.input_ids_T.tolist()[:context]
        assert part.truncated == (len(whole.input_ids_T) > context)
        assert part.spans == [(a, min(b, context), w) for a, b, w in whole.spans if a < context]
        assert not whole.truncated


@pytest.mark.parametrize("letters", ["ab ", " ", "东"])
def test_texts_of_few_and_of_many_tokens(tokenizer: ChatTokenizer, letters: str) -> None:
    """A run of blanks has far more characters per token than is expected of text; then the whole is tokenised."""
    turns = tuple(Turn(role, f"x{letters * 400}x") for _ in range(20) for role in ("user", "assistant"))
    chat = Conversation("a", "", turns)
    (whole,), (part,) = encode(tokenizer, [chat], [""]), encode(tokenizer, [chat], [""], 512)
    assert part.input_ids_T.tolist() == whole.input_ids_T.tolist()[:512]
    assert part.truncated == (len(whole.input_ids_T) > 512)


def test_a_long_conversation_is_cut_before_it_is_tokenised() -> None:
    assert _head("x" * 100, [(0, 40), (60, 70), (90, 100)], 10) == "x" * 70
    assert _head("x" * 50, [(0, 45)], 10) == "x" * 50
    assert _head("x" * 100, [(0, 45)], 10) == "x" * 100
