"""The one form that every format is brought into."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple


class Turn(NamedTuple):
    """One message. `weight` says what its tokens weigh beside the class's weight; 0: not learned."""

    role: str
    content: str
    weight: float = 1.0


class Conversation(NamedTuple):
    """A system text (may be empty) and turns that alternate between user and assistant."""

    class_name: str
    system: str
    turns: tuple[Turn, ...]

    @property
    def id(self) -> bytes:
        """16 bytes that depend on the content alone, not on class or weights (BLAKE2b)."""
        content = [self.system, [[turn.role, turn.content] for turn in self.turns]]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).digest()

    def messages(self) -> list[dict[str, str]]:
        """As `apply_chat_template` takes it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *({"role": turn.role, "content": turn.content} for turn in self.turns)]
