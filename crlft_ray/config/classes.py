"""Sources' classes, and the template that names them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from crlft_ray.config.section import Section

TemplateName = Literal["openchat", "llama3", "chatml"]


class ClassSpec(Section):
    """One source class: the text that conditions the model on it, and what its tokens weigh in the loss."""

    condition: str = ""
    """Text in the role prefixes of this class's conversations; empty for none."""
    weight: float | None = Field(None, ge=0)
    """Factor on the loss of the class's learned tokens; only the ratios between classes matter."""
    reward: float | None = None
    """Instead of a weight: a coarse reward, weight = exp((reward - max reward) / beta)."""

    @field_validator("condition")
    @classmethod
    def _stripped(cls, condition: str) -> str:
        if condition != condition.strip():
            raise ValueError(f"has white space at its ends: write {condition.strip()!r}")
        return condition


class CustomTemplate(Section):
    """A chat template of the user's own, for tokenizers that none of the named ones fits."""

    role_prefix: str
    """Text before a message; must contain {role} (or {Role}, capitalised), and {condition} where it belongs."""
    end_of_turn: str = Field(min_length=1)
    """Token after every message; added to the tokenizer if it has none of that name."""
    after_turn: str = ""
    """Text after the end of turn, such as a line break."""

    @field_validator("role_prefix")
    @classmethod
    def _has_role(cls, prefix: str) -> str:
        if "{role}" not in prefix and "{Role}" not in prefix:
            raise ValueError("must contain {role}, for instance '<|{condition} {role}|>'")
        if "{condition}" not in prefix:
            raise ValueError("must contain {condition}, for instance '<|{condition} {role}|>'")
        return prefix
