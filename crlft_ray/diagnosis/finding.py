"""What a check found on a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crlft_ray.diagnosis.nodes import Answer, Node

DRIVER = "driver"
"""The name of this process, where a check is about it and not about a node."""


@dataclass(frozen=True)
class Finding:
    """All is well, or a sentence that says what was found and what to do."""

    check: str
    node: str
    ok: bool
    text: str


def judged(check: str, answers: Mapping[Node, Answer], judge: Callable[[Node, Any], tuple[bool, str]]) -> list[Finding]:
    """A finding a node: `judge` says whether its answer is well, and the text; no answer is not."""
    findings = []
    for node, answer in answers.items():
        ok, text = (False, f"could not be checked: {answer.error}") if answer.error else judge(node, answer.value)
        findings.append(Finding(check, node.name, ok, text))
    return findings
