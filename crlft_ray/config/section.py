"""What all sections of a run's YAML file have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, numbers are finite, and text or `true` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


def text_or_section(value: Any) -> str | None:
    """Which branch of a union of text and section a value is meant for; errors then speak of that one alone."""
    return "text" if isinstance(value, str) else "section" if isinstance(value, dict | Section) else None


def either(kind: str, section: str) -> Discriminator:
    """For a union of text and section; its message says that the value must be `kind` or `section`."""
    return Discriminator(
        text_or_section, custom_error_type="either", custom_error_message=f"must be {kind} or {section}"
    )
