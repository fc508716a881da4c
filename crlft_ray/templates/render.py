"""Renders the chat template and tells what of the text is learned.

The environment is set up as transformers sets up its own, but without importing transformers, which takes a task half
a second; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser

from crlft_ray.conversations.conversation import Conversation


class _Learned(str):
    """A part of the rendered text that stood between `{% generation %}` and `{% endgeneration %}`."""

    __slots__ = ()


class _Generation(jinja2.ext.Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return _Learned(caller())


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation])
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def render(
    template: str, conversations: Sequence[Conversation], conditions: Sequence[str]
) -> tuple[list[str], list[list[tuple[int, int]]]]:
    """Renders each conversation under its condition; also gives each assistant message's span of characters, its end
    of turn included."""
    compiled = _compiled(template)
    texts, spans = [], []
    for conversation, condition in zip(conversations, conditions, strict=True):
        parts = list(compiled.generate(messages=conversation.messages(), condition=condition))
        texts.append("".join(parts))
        spans.append(_spans(parts))
    return texts, spans


def _spans(parts: list[Any]) -> list[tuple[int, int]]:
    found, at = [], 0
    for part in parts:
        if isinstance(part, _Learned):
            found.append((at, at + len(part)))
        at += len(part)
    return found
