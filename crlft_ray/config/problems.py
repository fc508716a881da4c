"""What is wrong with a config, in words of its file: key paths and what would be right."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crlft_ray.config.schema import Config

_REPAIRS = 4


def describe(raw: dict[str, Any], error: ValidationError) -> tuple[list[str], set[str]]:
    """One line for each error, and the keys they are about."""
    lines, keys = [], set()
    for detail in error.errors():
        key = ".".join(str(part) for part in _key(raw, detail)) or "config"
        keys.add(key)
        lines.append(f"{key}: {_message(detail)}")
    return lines, keys


def without_problems(raw: dict[str, Any]) -> Config | None:
    """The config with defaults or stand-ins where it is wrong, so that the rest can be checked, too; None if too much
    is wrong."""
    patched = copy.deepcopy(raw)
    for _ in range(_REPAIRS):
        try:
            return Config.model_validate(patched)
        except ValidationError as error:
            wrong = [(_key(patched, detail), detail["type"] == "missing") for detail in error.errors()]
            for path, missing in wrong:
                _patch(patched, path, missing)
    return None


def _key(raw: Any, detail: ErrorDetails) -> list[Any]:
    """The part of an error's location that is in the file: unions and mappings put names of their own between."""
    parts: list[Any] = []
    node = raw
    *_, last = detail["loc"] or ("",)
    for part in detail["loc"]:
        if _holds(node, part):
            node = node[part]
        elif detail["type"] != "missing" or part != last:
            continue
        parts.append(part)
    return parts


_MESSAGES = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def _message(detail: ErrorDetails) -> str:
    if detail["type"] in _MESSAGES:
        return _MESSAGES[detail["type"]]
    if detail["type"] in ("model_type", "dict_type"):
        return f"must be a section with keys (is {detail['input']!r})"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return message if detail["type"] == "value_error" else f"{message} (is {detail['input']!r})"


def _patch(patched: dict[str, Any], path: list[Any], missing: bool) -> None:
    """Drops the innermost key on `path`, so that its default holds; a missing one gets a stand-in text."""
    section, key = patched, ""
    node: Any = patched
    for part in path:
        if isinstance(node, dict):
            section, key = node, part
        node = node[part] if _holds(node, part) else None
    if missing and key == path[-1]:
        section[key] = "?"
    else:
        section.pop(key, None)


def _holds(node: Any, part: Any) -> bool:
    return part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))
