"""Human conversations with ratings, from the package `chitchat-dataset` (MIT)."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from crlft_ray.assets.asset import Asset

RATINGS = ("interesting", "upbeat", "witty")
"""What a conversation's participants rated, from 1 to 10."""


def to_row(conversation: dict[str, Any]) -> dict[str, Any] | None:
    """One row in the `messages` format with the ratings beside it; None for a conversation that nobody rated.

    Who speaks first is the user. What one person wrote in a row is one message, a line each; blank lines are dropped.
    Two in five of the rated conversations got no answer and are one single message.
    """
    ratings = conversation.get("ratings")
    if not ratings:
        return None
    written = [part for group in conversation["messages"] for part in group if part["text"].strip()]
    turns = [
        (sender, "\n".join(part["text"] for part in parts))
        for sender, parts in groupby(written, key=lambda part: part["sender"])
    ]
    messages = [
        {"role": "user" if sender == turns[0][0] else "assistant", "content": content} for sender, content in turns
    ]
    return {"messages": messages, **{name: ratings[name] for name in RATINGS}}


def _build(wheel: ZipFile, folder: Path) -> None:
    conversations = json.loads(wheel.read("chitchat_dataset/dataset.json"))
    with (folder / "conversations.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for conversation in conversations.values():
            if row := to_row(conversation):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


ASSET = Asset(
    name="chitchat",
    package="chitchat-dataset",
    version="0.9.0",
    sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    megabytes=8,
    recipe=1,
    build=_build,
)
