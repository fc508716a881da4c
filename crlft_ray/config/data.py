"""`data`: from conversations to shards."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, Tag, field_validator, model_validator

from crlft_ray.config.section import Section, either

Format = Literal["openchat", "messages", "sharegpt"]


def value_text(value: Any) -> str:
    """A field's value as the keys of `map` spell it: 1, true, GPT4."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


class ClassByField(Section):
    """Takes a row's class from one of its fields: by its value (`map`) or by the range it lies in (`ranges`)."""

    field: str
    map: dict[str, str] | None = None
    """Value of the field → class name."""
    ranges: dict[str, Annotated[tuple[float, float], Strict(False)]] | None = None
    """Class name → [lowest, highest] value, both inclusive."""

    @field_validator("map", mode="before")
    @classmethod
    def _keys_as_text(cls, map: Any) -> Any:
        """In YAML `1:` and `true:` are no text, but a field may well hold them."""
        return {value_text(key): name for key, name in map.items()} if isinstance(map, dict) else map

    @model_validator(mode="after")
    def _one_of(self) -> ClassByField:
        if (self.map is None) == (self.ranges is None):
            raise ValueError("needs exactly one of 'map' (value: class) and 'ranges' (class: [lowest, highest])")
        spans = sorted((low, high, name) for name, (low, high) in (self.ranges or {}).items())
        for low, high, name in spans:
            if low > high:
                raise ValueError(f"ranges.{name}: {low:g} is above {high:g}; write [lowest, highest]")
        for (_, high, first), (low, _, second) in itertools.pairwise(spans):
            if low <= high:
                raise ValueError(f"ranges of '{first}' and '{second}' overlap at {low:g}")
        return self

    def class_names(self) -> list[str]:
        """The classes this rule can give."""
        return list(self.map.values()) if self.map is not None else list(self.ranges or {})


class Source(Section):
    """Where conversations lie and how their class is known."""

    path: str = Field(min_length=1)
    """A file, a glob, a folder or a fetched name; local, or a URI that pyarrow's filesystems open."""
    format: Format = "messages"
    class_: Annotated[
        Annotated[str, Tag("text")] | Annotated[ClassByField, Tag("section")],
        either("a class name", "a rule such as {field: rating, ranges: {expert: [8, 10]}}"),
    ] = Field(alias="class")
    """A class name for all rows, or a rule over a field."""
    message_weights: Literal["learn", "keep"] = "learn"
    """What a message's own weight means: `learn`: not 0 is learned; `keep`: it multiplies the class's weight too."""
    sample: float = Field(1.0, gt=0, le=1)
    """Share of the conversations to take, chosen by their hash."""
    repeat: int = Field(1, ge=1)
    """How often each conversation occurs in an epoch."""

    model_config = ConfigDict(populate_by_name=True)

    def class_names(self) -> list[str]:
        """The classes this source can give."""
        return [self.class_] if isinstance(self.class_, str) else self.class_.class_names()


class Data(Section):
    """From conversations to shards."""

    sources: list[Source] = Field(min_length=1)
    holdout: float = Field(0.02, ge=0, lt=1)
    """Share of the conversations kept for evaluation, chosen by their hash."""
    context: int = Field(2048, ge=8)
    """Longest conversation in tokens; longer ones are truncated and counted."""
    pack_tokens: int = Field(4096, ge=8)
    """Slots of one pack, which is one micro-batch."""
    max_rejected: float = Field(0.01, ge=0, le=1)
    """Share of rows that may be rejected before `prepare` stops."""
    shards: str | None = None
    """Folder of shards that another run has made; null: this run's own, in its output."""
