"""How many tokens a step of a row has, so that every row learns from as many tokens a step.

The expert writes longer replies than the sub-optimal source, and conditions make prompts longer: of 4,096 tokens the
expert's conversations have 1,700 learned ones, and all together 900.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from crlft_ray.ablation.sources import SourceName
from crlft_ray.conversations.conversation import Conversation, Turn
from crlft_ray.templates import ChatTokenizer, encode

_COUNTED = 2000
"""Conversations of each class; they are alike."""


def step_tokens(
    files: Mapping[SourceName, Path], conditions: Mapping[SourceName, str], tokenizer: ChatTokenizer, learned: int
) -> int:
    """Tokens of which about `learned` are learned.

    Args:
        files: conversations by class, in the `messages` format.
        conditions: of the classes.
    """
    tokens = learned_tokens = 0.0
    for name, file in files.items():
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines[:_COUNTED]]
        encoded = encode(
            tokenizer, [_conversation(name, row["messages"]) for row in rows], [conditions[name]] * len(rows)
        )
        each = len(lines) / len(rows)
        tokens += each * sum(len(conversation.input_ids_T) for conversation in encoded)
        learned_tokens += each * sum(end - start for conversation in encoded for start, end, _ in conversation.spans)
    return round(learned * tokens / learned_tokens)


def _conversation(name: str, messages: Sequence[Mapping[str, str]]) -> Conversation:
    return Conversation(name, "", tuple(Turn(message["role"], message["content"]) for message in messages))
