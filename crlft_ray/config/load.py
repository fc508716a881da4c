"""Reads a run's config: YAML file, `--set` overrides, validation with every error at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crlft_ray.config.schema import Config
from crlft_ray.errors import UserError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads `path` and applies `key.path=value` overrides (values are YAML).

    Raises:
        UserError: the file is missing or no YAML, an override is malformed, or the config is wrong; all the config's
            errors are named at once, each with its key and what would be right.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must hold a mapping of config keys, not {type(raw).__name__}")
    for override in overrides:
        _apply(raw, override)
    return validate(raw, str(path))


def validate(raw: dict[str, Any], where: str) -> Config:
    """Checks a raw mapping; `where` opens the error message.

    Raises:
        UserError: with every error found.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(detail) for detail in error.errors()]
    else:
        problems = _cross_checks(config)
        if not problems:
            return config
    unique = list(dict.fromkeys(problems))
    raise UserError(f"{where}: {len(unique)} thing(s) to mend:\n" + "\n".join(f"  {line}" for line in unique))


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: write key.path=value, for instance --set train.workers=4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML: {error}") from None
    if isinstance(parsed, str):
        # YAML 1.1 reads 1e-4 as text; a user means the number.
        try:
            parsed = float(parsed)
        except ValueError:
            parsed = str(parsed)
    node: Any = raw
    *parents, last = key.split(".")
    for part in parents:
        child = node[_index(node, part, override)] if isinstance(node, list) else node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict | list):
            raise UserError(f"--set {override}: '{part}' holds a value, not a section")
        node = child
    node[_index(node, last, override) if isinstance(node, list) else last] = parsed


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"--set {override}: '{part}' must be a list index below {len(node)}")
    return int(part)


def _describe(detail: ErrorDetails) -> str:
    # A union adds the tried type to the path; those parts are no keys of the file.
    skipped = {"str", "float", "ClassByField", "CustomTemplate", "function-after"}
    parts = [str(part) for part in detail["loc"]]
    key = ".".join(part for part in parts if part not in skipped and "[" not in part) or "config"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "unknown key"
    elif detail["type"] == "missing":
        message = "is required"
    shown = "" if detail["type"] in ("missing", "extra_forbidden", "value_error") else f" (is {detail['input']!r})"
    return f"{key}: {message}{shown}"


def _cross_checks(config: Config) -> list[str]:
    names = config.class_names
    known = f"must be one of the classes: {', '.join(names)}"
    problems = [] if config.infer_as in names else [f"infer_as: '{config.infer_as}' {known}"]
    given: set[str] = set()
    for number, source in enumerate(config.data.sources):
        given.update(source.class_names())
        problems += [
            f"data.sources.{number}.class: '{name}' {known}" for name in source.class_names() if name not in names
        ]
    problems += [
        f"classes.{name}: no source gives this class; add a source for it or drop the class"
        for name in names
        if name not in given
    ]
    if config.train.global_batch_tokens % config.data.pack_tokens:
        problems.append(
            f"train.global_batch_tokens: {config.train.global_batch_tokens} is not a whole number of packs of "
            f"data.pack_tokens = {config.data.pack_tokens}"
        )
    return problems + _weight_checks(config)


def _weight_checks(config: Config) -> list[str]:
    specs = config.classes
    problems = [
        f"classes.{name}: give either weight or reward, not both"
        for name, spec in specs.items()
        if spec.weight is not None and spec.reward is not None
    ]
    rewarded = [name for name, spec in specs.items() if spec.reward is not None]
    if rewarded:
        problems += [
            f"classes.{name}.reward: is required, because '{rewarded[0]}' has one; rewards and weights do not mix"
            for name, spec in specs.items()
            if spec.reward is None
        ]
        if config.beta is None:
            problems.append("beta: is required where classes have rewards: weight = exp((reward - max reward) / beta)")
    elif config.beta is not None:
        problems.append("beta: has no effect without rewards; give the classes rewards or drop it")
    if not problems and not any(weight > 0 for weight in config.class_weights()):
        problems.append("classes: all weights are 0, nothing would be learned; give one class a weight above 0")
    return problems
