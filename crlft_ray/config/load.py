"""Reads a run's config: YAML file, `--set` overrides, validation with every error at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from crlft_ray.config.checks import cross_checks
from crlft_ray.config.problems import describe, without_problems
from crlft_ray.config.schema import Config
from crlft_ray.config.text import parse_yaml, to_yaml
from crlft_ray.errors import UserError
from crlft_ray.storage import Place


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads `path` and applies `key.path=value` overrides (values are YAML).

    Raises:
        UserError: the file is missing or no YAML, an override is malformed, or the config is wrong; all the config's
            errors are named at once, each with its key and what would be right.
    """
    path = Path(path)
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    raw = _mapping(raw, str(path))
    for override in overrides:
        _apply(raw, override)
    return validate(raw, str(path))


def validate(raw: dict[str, Any], where: str) -> Config:
    """Checks a raw mapping; `where` opens the error message.

    Raises:
        UserError: with every error found.
    """
    problems: list[str] = []
    wrong_keys: set[str] = set()
    try:
        config: Config | None = Config.model_validate(raw)
    except ValidationError as error:
        problems, wrong_keys = describe(raw, error)
        config = without_problems(raw)
    if config is not None:
        problems += cross_checks(config, wrong_keys)
        if not problems:
            return config
    raise UserError(f"{where}: {len(problems)} thing(s) to mend:\n" + "\n".join(f"  {line}" for line in problems))


def read_config(place: Place) -> Config:
    """The resolved config that a run left in its output.

    Raises:
        UserError: it was made by another version of the project, or changed by hand.
    """
    try:
        raw = parse_yaml(place.read_text())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{place}: not valid YAML: {error}") from None
    return validate(_mapping(raw, str(place)), str(place))


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal object."""
    return to_yaml(config.model_dump(mode="json", by_alias=True))


def set_key(raw: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Sets `a.b.c` in nested sections, making those that are missing; `where` opens an error's message.

    Raises:
        UserError: the key goes through a value, or to a place that a list does not have.
    """
    *parents, last = key.split(".")
    node: Any = raw
    for part in parents:
        place = _place(node, part, where)
        child = node[place] if isinstance(node, list) else node.get(place)
        if child is None:
            child = node[place] = {}
        if not isinstance(child, dict | list):
            raise UserError(f"{where}: '{part}' holds a value, not a section")
        node = child
    node[_place(node, last, where)] = value


def _mapping(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        found = "is empty" if raw is None else f"holds a {type(raw).__name__}"
        raise UserError(f"{where}: {found}; it must hold config keys such as model, output and data")
    return raw


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {override}: write key.path=value, for instance --set train.workers=4")
    try:
        parsed = parse_yaml(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML: {error}") from None
    set_key(raw, key, parsed, f"--set {override}")


def _place(node: dict[str, Any] | list[Any], part: str, where: str) -> Any:
    if isinstance(node, dict):
        return part
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"{where}: '{part}' must be a number from 0 to {len(node) - 1}, a place in the list")
    return int(part)
