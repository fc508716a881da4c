"""A question as every suite gives it, and which half of its suite it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Half = Literal["select", "gate"]
"""`select` is for studies and choosing models, `gate` for the registry's gate alone."""
HALVES: tuple[Half, ...] = ("select", "gate")

_MIN_SHARED = 40
"""Characters from which on a text before the question is a passage that ties questions together."""


@dataclass(frozen=True)
class Question:
    """One question as it is asked."""

    task: str
    id: str
    """Hash of the text; a text's second occurrence in a task gets '-2'. In a user's suite: of its row in the data, and
    behind that of the suite's settings."""
    number: int
    """Its place in the task's file, from 0."""
    text: str
    """What is put to the model."""
    letters: tuple[str, ...]
    """The answers that are compared; none for a suite of free answers."""
    gold: tuple[str, ...]
    """The right answers; none of them is among `letters` in the rare question that has lost its right option."""
    group: str
    """Questions on one passage, and the same question in two tasks, have the same."""

    @property
    def half(self) -> Half:
        """By the hash of the group, so that no passage lies in both halves."""
        return HALVES[hashlib.sha256(self.group.encode()).digest()[0] & 1]

    @property
    def chance(self) -> float:
        """What guessing is expected to get."""
        return len(set(self.gold) & set(self.letters)) / len(self.letters) if self.letters else 0.0


def identities(texts: Iterable[str]) -> list[str]:
    """An id for each text, the same on every machine; different for texts that occur again."""
    seen: dict[str, int] = {}
    found = []
    for text in texts:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        found.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return found


def grouped(questions: Sequence[Question]) -> list[Question]:
    """The questions with a common `group` where they share a passage (what stands before "Q: ") or a wording.

    A benchmark may ask the same question with its passage in one task and without in another; answers to both hang
    together as answers on one passage do.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    keys: list[str] = []
    for question in questions:
        passage, marker, wording = question.text.rpartition("Q: ")
        parts = [f"question {question.text if not marker else wording}"]
        if marker and len(passage.strip()) >= _MIN_SHARED:
            parts.append(f"passage {passage.strip()}")
        for part in parts[1:]:
            parent[root(part)] = root(parts[0])
        keys.append(parts[0])
    named: dict[str, str] = {}
    for key, question in zip(keys, questions, strict=True):
        # The least id of its members: a name that does not depend on the order of the files.
        name = root(key)
        named[name] = min(named.get(name, question.id), question.id)
    return [replace(question, group=named[root(key)]) for key, question in zip(keys, questions, strict=True)]
