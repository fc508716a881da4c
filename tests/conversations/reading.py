"""Reads whole files the way `prepare` does: found, cut into pieces, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crlft_ray.conversations.files import cut, find_files
from crlft_ray.conversations.formats import RejectedRow
from crlft_ray.conversations.rows import BLANK, read_rows

HUGE = 1 << 30


def numbered(path: Path | str, piece_bytes: int = HUGE) -> list[tuple[int, Any]]:
    """Line or row number from 0 in the whole file, and the value; blank lines left out."""
    rows: list[tuple[int, Any]] = []
    for file in find_files(0, str(path)):
        first = 0
        for piece in cut(file, piece_bytes):
            position = -1
            for position, value in read_rows(piece):
                if value is not BLANK:
                    rows.append((first + position, value))
            first += position + 1
    return rows


def values(path: Path | str, piece_bytes: int = HUGE) -> list[Any]:
    """The values of `numbered`; what cannot be parsed as its reason."""
    return [str(value) if isinstance(value, RejectedRow) else value for _, value in numbered(path, piece_bytes)]
