"""The search space: what a study varies, checked against the config before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from crlft_ray.config import Config, validate
from crlft_ray.config.load import set_key
from crlft_ray.config.text import parse_yaml
from crlft_ray.errors import UserError

Kind = Literal["loguniform", "uniform", "choice", "grid"]
_KINDS: tuple[Kind, ...] = ("loguniform", "uniform", "choice", "grid")

_FIXED = {
    "model": "the shards are made with its tokenizer",
    "template": "it is in the shards' tokens",
    "infer_as": "it is what the trials are compared on",
    "data": "a study uses one set of shards",
    "output": "each trial has a folder in the study's output",
    "tune": "it is the study itself",
    "evaluate": "all trials are measured alike",
    "register": "it comes after the study",
    "tracking": "all trials are in one experiment",
}

_FREE = (["train", "deepspeed"], ["train", "resources_per_worker"])
"""Sections whose keys are not this project's."""


@dataclass(frozen=True)
class Domain:
    """The values of one key."""

    kind: Kind
    values: tuple[Any, ...]
    """Lowest and highest, or all there are."""


def parse_space(config: Config) -> dict[str, Domain]:
    """The config's `tune.space`, with every value that a key can take tried on the config.

    Raises:
        UserError: a domain that cannot be read, or a key that does not exist, cannot be varied or takes no such value.
    """
    if not config.tune.space:
        raise UserError(
            "tune.space: is empty: name the keys to search, for instance {classes.mixed.weight: 'loguniform(0.003, 1)'}"
        )
    space = {key: _parse(key, text) for key, text in config.tune.space.items()}
    first = {key: domain.values[0] for key, domain in space.items()}
    for key, domain in space.items():
        _check_key(key)
        for value in domain.values:
            try:
                with_values(config, {**first, key: value})
            except UserError as error:
                problem = " ".join(str(error).splitlines()[-1].split())
                raise UserError(f"tune.space.{key}: {problem}") from None
    _check_searcher(config, space)
    return space


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with a trial's values.

    Raises:
        UserError: a key does not exist, or does not take its value.
    """
    raw = config.model_dump(mode="json", by_alias=True)
    for key, value in values.items():
        _refuse_unknown(raw, key)
        set_key(raw, key, value, f"tune.space.{key}")
    return validate(raw, "tune.space")


def _refuse_unknown(raw: Any, key: str) -> None:
    """The dumped config names every key there is; a new one would be taken for a new class or setting."""
    parts = key.split(".")
    for number, part in enumerate(parts):
        if number > 1 and parts[:2] in _FREE:
            return
        if not isinstance(raw, dict) or part not in raw:
            raise UserError(f"the config has no key '{key}'")
        raw = raw[part]


def _parse(key: str, text: str) -> Domain:
    found = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text, re.DOTALL)
    kinds = {kind: kind for kind in _KINDS}
    where = f"tune.space.{key}: {text!r}"
    if found is None or found[1] not in kinds:
        raise UserError(f"{where} must be loguniform(low, high), uniform(low, high), choice(a, b, …) or grid(a, b, …)")
    try:
        values = parse_yaml(f"[{found[2]}]")
    except yaml.YAMLError:
        raise UserError(f"{where}: the values between the brackets cannot be read") from None
    kind = kinds[found[1]]
    if kind in ("choice", "grid"):
        if not values:
            raise UserError(f"{where} has no values")
        return Domain(kind, tuple(values))
    if len(values) != 2 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise UserError(f"{where} needs two numbers, the lowest and the highest")
    low, high = (float(value) for value in values)
    if low >= high:
        raise UserError(f"{where}: the lowest value must be less than the highest")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: the lowest value must be above 0, because the scale is logarithmic")
    return Domain(kind, (low, high))


def _check_key(key: str) -> None:
    section = key.split(".", maxsplit=1)[0]
    why = _FIXED.get(section)
    if section == "classes" and key.endswith(".condition"):
        why = "conditions are in the shards' tokens; compare studies of several configs instead"
    if why:
        raise UserError(f"tune.space.{key}: cannot be searched: {why}")


def _check_searcher(config: Config, space: Mapping[str, Domain]) -> None:
    grids = [key for key, domain in space.items() if domain.kind == "grid"]
    if config.tune.searcher != "grid":
        if grids:
            raise UserError(f"tune.space.{grids[0]}: grid(…) goes with tune.searcher: grid; write choice(…)")
        return
    for key, domain in space.items():
        if domain.kind != "grid":
            raise UserError(f"tune.space.{key}: must be grid(…), because tune.searcher is grid")
    points = math.prod(len(domain.values) for domain in space.values())
    if config.tune.budget.trials != points:
        raise UserError(f"tune.budget.trials: is {config.tune.budget.trials}, but the grid has {points} points")
