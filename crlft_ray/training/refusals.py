"""What DeepSpeed says against the settings that a user gave it, in the words of the config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crlft_ray.config import Config
from crlft_ray.errors import UserError


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
