"""How questions are put to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Chat = Literal["template", "none"]
"""As the user message of the model's chat template, or as plain text."""


@dataclass(frozen=True)
class Way:
    """Chat template or none, and the condition given to the template."""

    chat: Chat
    condition: str | None = None
    """None: what the template takes by itself; empty: no condition."""

    def __str__(self) -> str:
        if self.chat == "none":
            return "no template"
        if self.condition is None:
            return "chat template"
        return f"chat template as {self.condition}" if self.condition else "chat template, no condition"
