"""Reads the rows of a piece, each with its position; rows that are no JSON are told apart, not lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from crlft_ray.conversations.files import Piece, SourceFile
from crlft_ray.conversations.formats import RejectedRow
from crlft_ray.conversations.json_items import JsonItemsError, json_items
from crlft_ray.errors import UserError

_CHUNK = 1 << 20


class Row(NamedTuple):
    """`position` is a line (JSONL) or row number in the piece, from 0; `value` what it holds, or why it is no row."""

    position: int
    value: Any | RejectedRow


BLANK = object()
"""The value of an empty line: no row, but it counts as a line."""


def read_rows(piece: Piece) -> Iterator[Row]:
    """All rows of a piece in order.

    Raises:
        UserError: the file is damaged so that what follows cannot be read.
    """
    try:
        yield from _READERS[piece.file.kind](piece)
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"{piece.file.place}: damaged {piece.file.kind} file: {error}") from None


def _jsonl(piece: Piece) -> Iterator[Row]:
    lines = _lines_of_range(piece) if piece.stop is not None else _lines_of_stream(piece.file)
    for position, line in enumerate(lines):
        if position == 0 and piece.start == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield Row(position, _parse(line) if line.strip() else BLANK)


def _parse(line: bytes) -> Any | RejectedRow:
    try:
        return json.loads(line)
    except UnicodeDecodeError:
        return RejectedRow("is not UTF-8")
    except ValueError as error:
        return RejectedRow(f"is not valid JSON: {error}")
    except RecursionError:
        return RejectedRow("is nested too deeply")


def _lines_of_range(piece: Piece) -> list[bytes]:
    """The lines that begin in [start, stop): every line belongs to exactly one piece."""
    start, stop = piece.start, piece.stop
    assert stop is not None
    # One byte earlier tells whether a line begins at `start` itself.
    begin = max(start - 1, 0)
    with piece.file.place.filesystem.open_input_file(piece.file.place.path) as stream:
        stream.seek(begin)
        data = bytes(stream.read(stop - begin))
        if start > 0:
            newline = data.find(b"\n")
            if newline < 0 or begin + newline + 1 >= stop:
                return []
            data = data[newline + 1 :]
        while not data.endswith(b"\n") and (more := bytes(stream.read(_CHUNK))):
            end = more.find(b"\n")
            data += more if end < 0 else more[: end + 1]
    return data.removesuffix(b"\n").split(b"\n")


def _lines_of_stream(file: SourceFile) -> Iterator[bytes]:
    with _open_stream(file) as stream:
        rest = b""
        while chunk := stream.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _json(piece: Piece) -> Iterator[Row]:
    found = -1
    with _open_stream(piece.file) as stream:
        try:
            for found, value in enumerate(json_items(stream)):
                yield Row(found, value)
        except JsonItemsError as error:
            raise UserError(f"{piece.file.place}: not valid JSON: {error}") from None
    if found < 0:
        raise UserError(f"{piece.file.place}: the list of conversations is empty")


def _parquet(piece: Piece) -> Iterator[Row]:
    assert piece.stop is not None
    with piece.file.place.filesystem.open_input_file(piece.file.place.path) as stream:
        parquet = pq.ParquetFile(stream)
        groups = list(range(piece.start, piece.stop))
        yield from _of_batches(parquet.iter_batches(batch_size=1024, row_groups=groups))


def _arrow(piece: Piece) -> Iterator[Row]:
    if piece.stop is None:
        with _open_stream(piece.file) as stream:
            yield from _of_batches(pa.ipc.open_stream(stream))
        return
    with piece.file.place.filesystem.open_input_file(piece.file.place.path) as stream:
        reader = pa.ipc.open_file(stream)
        yield from _of_batches(reader.get_batch(number) for number in range(piece.start, piece.stop))


def _of_batches(batches: Any) -> Iterator[Row]:
    position = 0
    for batch in batches:
        for value in batch.to_pylist():
            yield Row(position, value)
            position += 1


def _open_stream(file: SourceFile) -> Any:
    return file.place.filesystem.open_input_stream(file.place.path, compression=file.compression)


_READERS = {"jsonl": _jsonl, "json": _json, "parquet": _parquet, "arrow": _arrow}
