"""Reads the items of a JSON list one by one, so that a large file is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

_CHUNK = 1 << 20
_LONGEST_LITERAL = 16
"""A mistake or a number this near to the end of what was read may be something cut off: -Infinity, an escape, 1e-5."""


class JsonItemsError(ValueError):
    """The text is no JSON list; the message says where it ends to be one."""


def json_items(stream: Any) -> Iterator[Any]:
    """The items of the list that `stream` (bytes, UTF-8, with or without BOM) holds, decoded as `json.loads` would.

    Raises:
        JsonItemsError: after the items before the mistake.
    """
    text = _Text(stream)
    if text.next_character() != "[":
        raise JsonItemsError("it must hold a list of conversations")
    text.skip()
    found = 0
    while text.next_character() != "]":
        if found:
            if text.next_character() != ",":
                raise JsonItemsError(f"expected ',' or ']' after item {found}")
            text.skip()
        yield text.value(found + 1)
        found += 1
    text.skip()
    if text.next_character():
        raise JsonItemsError("something follows the list")


class _Text:
    """The part of the text that is read and not yet used."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._buffer = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next one that is no white space; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in " \t\r\n":
                    return self._buffer[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read(_CHUNK)

    def skip(self) -> None:
        self._at += 1

    def value(self, number: int) -> Any:
        """The value that begins at the next character."""
        wanted = _CHUNK
        while True:
            self.next_character()
            try:
                value, end = json.JSONDecoder().raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut_off = (
                    error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - _LONGEST_LITERAL
                )
                if self._ended or not cut_off:
                    raise JsonItemsError(f"item {number}: {error.msg}") from None
            except (RecursionError, ValueError) as error:
                raise JsonItemsError(f"item {number}: {error}") from None
            else:
                if self._ended or end <= len(self._buffer) - _LONGEST_LITERAL or not isinstance(value, int | float):
                    self._at = end
                    return value
            self._read(wanted)
            wanted *= 2

    def _read(self, size: int) -> None:
        chunk = bytes(self._stream.read(size))
        self._ended = not chunk
        try:
            more = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError:
            raise JsonItemsError("it is not UTF-8") from None
        self._buffer, self._at = self._buffer[self._at :] + more, 0
