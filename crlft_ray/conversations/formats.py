"""The three accepted formats, each a function from a row to system text and turns.

openchat  {"items": [{"role", "content", "weight"?}], "condition"?, "system"?}
messages  {"messages": [{"role", "content", "weight"?}]}              (OpenAI, Hugging Face)
sharegpt  {"conversations": [{"from", "value", "weight"?}], "system"?}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crlft_ray.conversations.conversation import Turn

Parsed = tuple[str, list[Turn]]

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
          "bard": "assistant", "assistant": "assistant", "model": "assistant", "system": "system"}  # fmt: skip


_LARGEST_WEIGHT = 1e6
"""Shards keep weights in 32 bits, and the sum over a batch must stay finite, too."""


class RejectedRow(Exception):  # noqa: N818
    """A row that cannot be understood; the text is the reason kept in rejected.jsonl."""


def parse_row(row: Any, format: str, message_weights: str) -> Parsed:
    """System text and turns of one row, content stripped.

    Args:
        row: what the file holds.
        format: openchat, messages or sharegpt.
        message_weights: `learn`: a message's own weight only says whether it is learned; `keep`: it is kept.

    Raises:
        RejectedRow: the row is not of this format.
    """
    if not isinstance(row, dict):
        raise RejectedRow(f"is {_kind(row)}, not an object")
    system, turns = _PARSERS[format](row)
    if message_weights == "learn":
        turns = [turn if turn.weight in (0.0, 1.0) else turn._replace(weight=1.0) for turn in turns]
    return system.strip(), turns


def _openchat(row: dict[str, Any]) -> Parsed:
    return _with_system(_system(row), _turns(row, "items", "role", "content"))


def _messages(row: dict[str, Any]) -> Parsed:
    return _with_system("", _turns(row, "messages", "role", "content"))


def _sharegpt(row: dict[str, Any]) -> Parsed:
    return _with_system(_system(row), _turns(row, "conversations", "from", "value"))


_PARSERS: dict[str, Callable[[dict[str, Any]], Parsed]] = {
    "openchat": _openchat,
    "messages": _messages,
    "sharegpt": _sharegpt,
}


def _turns(row: dict[str, Any], key: str, role_key: str, text_key: str) -> list[Turn]:
    items = row.get(key)
    if not isinstance(items, list):
        raise RejectedRow(f"has no list '{key}'" if items is None else f"'{key}' is {_kind(items)}, not a list")
    return [_turn(item, f"{key}[{number}]", role_key, text_key) for number, item in enumerate(items)]


def _turn(item: Any, where: str, role_key: str, text_key: str) -> Turn:
    if not isinstance(item, dict):
        raise RejectedRow(f"{where} is {_kind(item)}, not an object")
    role, text, weight = item.get(role_key), item.get(text_key), item.get("weight")
    known = _ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        raise RejectedRow(f"{where}.{role_key} is {role!r}, not one of {', '.join(_ROLES)}")
    if weight is None:
        weight = 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= _LARGEST_WEIGHT:
        raise RejectedRow(f"{where}.weight is {weight!r}, not a number from 0 to {_LARGEST_WEIGHT:g}")
    return Turn(known, _text(text, f"{where}.{text_key}").strip(), float(weight))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RejectedRow(f"{where} is {_kind(value)}, not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RejectedRow(f"{where} holds half of a surrogate pair, which is no text") from None
    return value


def _system(row: dict[str, Any]) -> str:
    system = row.get("system")
    return "" if system is None else _text(system, "system")


def _with_system(system: str, turns: list[Turn]) -> Parsed:
    if turns and turns[0].role == "system":
        if system.strip() and system.strip() != turns[0].content:
            raise RejectedRow("has two different system texts")
        system, turns = turns[0].content, turns[1:]
    if any(turn.role == "system" for turn in turns):
        raise RejectedRow("has a system text after the first message")
    return system, turns


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "missing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
