"""What DeepSpeed says against the settings that a user gave it, in the words of the config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from crlft_ray.config import Config
from crlft_ray.errors import UserError


def check_settings(config: Config, settings: dict[str, Any]) -> None:
    """Lets DeepSpeed read its settings, and finds the user's keys that it does not ask for.

    Raises:
        UserError: DeepSpeed does not take a value, or would leave out a key without a word.
    """
    from deepspeed.runtime.config import DeepSpeedConfig

    asked = _Asked(settings)
    # Read where the engine is made.
    asked.keys_asked |= {"data_parallel_size", "sequence_parallel_size"}
    with refusals_named(config):
        DeepSpeedConfig(asked)
    for key in sorted(config.train.deepspeed.keys() - asked.keys_asked):
        near = get_close_matches(key, asked.keys_asked, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"train.deepspeed.{key}: DeepSpeed has no such setting{meant}")


class _Asked(dict[str, Any]):
    """Settings that note which of them, and which others, are asked for."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.keys_asked: set[str] = set()

    def __copy__(self) -> _Asked:
        return self

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)


@contextmanager
def refusals_named(config: Config) -> Iterator[None]:
    """Turns what DeepSpeed says against its settings into a UserError that names the key in the user's config.

    Ours alone it takes, so that one who gave none has nothing to mend.
    """
    from deepspeed.runtime.config import DeepSpeedConfigError

    try:
        yield
    # Many a value it only takes for what it should be. What a machine lacks is a RuntimeError or an OSError.
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, DeepSpeedConfigError) as error:
        if not config.train.deepspeed:
            raise
        raise UserError("; ".join(_refusals(config.train.deepspeed, error))) from error


def _refusals(given: dict[str, Any], error: Exception) -> Iterator[str]:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        said = str(error).strip().splitlines()
        yield f"train.deepspeed: DeepSpeed does not take it: {': '.join([type(error).__name__, *said[:1]])}"
        return
    for detail in error.errors():
        key = _key(given, detail["loc"], detail["input"])
        reason = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
        value = f" (is {detail['input']!r})" if key else ""
        yield f"{'.'.join(['train.deepspeed', *key])}: DeepSpeed does not take it: {reason}{value}"


def _key(given: Any, end: Sequence[int | str], value: Any) -> list[str]:
    """Where in `given` that value stands under `end`: DeepSpeed says where in a section it is, but not in which."""
    if not isinstance(given, dict) or not end:
        return []
    node: Any = given
    for part in end:
        node = node.get(part) if isinstance(node, dict) else None
    if end[0] in given and node == value:
        return [str(part) for part in end]
    for name, section in given.items():
        if found := _key(section, end, value):
            return [str(name), *found]
    return []
