"""From conversations to ids: the template renders, the whole text is tokenised once, offsets tell what is learned."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from crlft_ray.conversations.conversation import Conversation
from crlft_ray.templates.render import render
from crlft_ray.templates.tokenizer import ChatTokenizer

_start, _end = itemgetter(0), itemgetter(1)
_CHARACTERS_PER_TOKEN = 5
"""More than most texts have, so that the beginning of a long conversation usually holds enough tokens."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as the model sees it."""

    input_ids_T: npt.NDArray[np.int32]
    spans: list[tuple[int, int, float]]
    """What is learned: [start, end) in `input_ids_T`, and the message's weight."""
    truncated: bool = False


def encode(
    tokenizer: ChatTokenizer,
    conversations: Sequence[Conversation],
    conditions: Sequence[str],
    context: int | None = None,
) -> list[Encoded]:
    """Tokenises each conversation under its condition, at most its first `context` tokens.

    The learned spans are the assistant messages with their ends of turn; a message of weight 0 is none.
    """
    texts, char_spans = render(tokenizer.template, conversations, conditions)
    heads = texts if context is None else [_head(*each, context) for each in zip(texts, char_spans, strict=True)]
    encodings = tokenizer.backend.encode_batch(heads, add_special_tokens=False)
    if context is not None:
        short = [n for n, head in enumerate(heads) if head != texts[n] and len(encodings[n].ids) < context]
        again = tokenizer.backend.encode_batch([texts[n] for n in short], add_special_tokens=False)
        for n, encoding in zip(short, again, strict=True):
            heads[n], encodings[n] = texts[n], encoding
    return [
        _encoded(encoding, spans, conversation, context, cut_off=len(head) < len(text))
        for encoding, spans, conversation, head, text in zip(
            encodings, char_spans, conversations, heads, texts, strict=True
        )
    ]


def _head(text: str, char_spans: list[tuple[int, int]], context: int) -> str:
    """The beginning of a long text up to an end of turn: no token, and no way to split, reaches across that one."""
    enough = context * _CHARACTERS_PER_TOKEN
    return text if len(text) <= enough else text[: next((end for _, end in char_spans if end >= enough), len(text))]


def token_spans(offsets: Sequence[tuple[int, int]], char_spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turns character spans into token spans: a token belongs to a span that any of its characters lies in."""
    spans = []
    for first_char, last_char in char_spans:
        # A token without characters (the prefix space that some tokenizers invent) belongs to what follows it.
        first = min(bisect_right(offsets, first_char, key=_end), bisect_left(offsets, first_char, key=_start))
        spans.append((first, bisect_left(offsets, last_char, key=_start)))
    return spans


def _encoded(
    encoding: Any,
    char_spans: list[tuple[int, int]],
    conversation: Conversation,
    context: int | None,
    cut_off: bool,
) -> Encoded:
    weights = [turn.weight for turn in conversation.turns if turn.role == "assistant"]
    ids_T = np.asarray(encoding.ids, dtype=np.int32)
    size = len(ids_T) if context is None else min(len(ids_T), context)
    learned = [
        (start, min(end, size), weight)
        for (start, end), weight in zip(token_spans(encoding.offsets, char_spans), weights, strict=True)
        if weight != 0 and start < min(end, size)
    ]
    return Encoded(ids_T[:size], learned, truncated=cut_off or size < len(ids_T))
