"""Finds the files of a source and cuts them into pieces that tasks read on their own."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from pyarrow import fs

from crlft_ray.errors import UserError
from crlft_ray.storage import Place

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet", ".arrow": "arrow"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_NOT_COMPRESSED = {"parquet", "arrow"}
"""They are read in parts, and compress what they hold themselves."""
_NO_DATA = {"dataset_info.json", "state.json", "dataset_dict.json", "asset.json"}


@dataclass(frozen=True)
class SourceFile:
    """One input file."""

    source: int
    """Number of the source in the config."""
    place: Place
    kind: str
    """jsonl, json, parquet or arrow."""
    compression: str | None
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Piece:
    """A part of a file: bytes [start, stop) of plain JSONL, row groups of Parquet, record batches of Arrow files,
    otherwise the whole file (stop None)."""

    file: SourceFile
    start: int
    stop: int | None


def find_files(source: int, path: str) -> list[SourceFile]:
    """The files of a path, glob or folder, sorted.

    Raises:
        UserError: nothing is there, a file is empty or its type is unknown.
    """
    key = f"data.sources.{source}.path"
    pattern = Place.of(path)
    try:
        if pattern.is_folder():
            places = _in_folder(pattern, key)
        elif pattern.exists():
            places = [pattern]
        else:
            places = _matching(pattern)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error}") from None
    if not places:
        raise UserError(f"{key}: {path} does not exist" if not _is_glob(path) else f"{key}: no file matches {path}")
    return [_source_file(source, place) for place in places]


def cut(file: SourceFile, piece_bytes: int) -> list[Piece]:
    """Pieces of about `piece_bytes`, decided by the file alone."""
    if file.kind == "jsonl" and file.compression is None:
        starts = range(0, file.size, piece_bytes)
        return [Piece(file, start, min(start + piece_bytes, file.size)) for start in starts]
    parts = _parts(file)
    if parts is None:
        return [Piece(file, 0, None)]
    each = max(1, parts * piece_bytes // file.size)
    return [Piece(file, start, min(start + each, parts)) for start in range(0, parts, each)]


def _parts(file: SourceFile) -> int | None:
    """Row groups of Parquet, record batches of an Arrow file; None where there is no random access."""
    try:
        if file.kind == "parquet":
            with file.place.filesystem.open_input_file(file.place.path) as stream:
                return int(pq.ParquetFile(stream).metadata.num_row_groups)
        if file.kind == "arrow":
            with file.place.filesystem.open_input_file(file.place.path) as stream:
                # Files of `datasets.save_to_disk` are Arrow streams, which have no index.
                return int(pa.ipc.open_file(stream).num_record_batches) if stream.read(6) == b"ARROW1" else None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file.place}: damaged {file.kind} file: {error}") from None
    return None


def _is_glob(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _matching(pattern: Place) -> list[Place]:
    root = pattern.path
    while _is_glob(root):
        root = root.rpartition("/")[0]
    if root == pattern.path or not pattern.at(root).is_folder():
        return []
    matches = re.compile(_glob_expression(pattern.path)).fullmatch
    # Not further down than the pattern goes: a folder there may be large, or closed to this user.
    deep = "/" in pattern.path[len(root) + 1 :] or "**" in pattern.path
    infos = pattern.filesystem.get_file_info(fs.FileSelector(root, recursive=deep))
    paths = sorted(info.path for info in infos if info.type == fs.FileType.File and matches(info.path))
    return [place for path in paths if (place := pattern.at(path)).name not in _NO_DATA]


def _glob_expression(pattern: str) -> str:
    """`*` and `?` stay within a folder, `**` goes through any number of them."""
    expression = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^]/]+])", pattern):
        if part.startswith("["):
            negated = part[1] in "!^"
            inside = part[1 + negated : -1].replace("\\", r"\\")
            expression += f"[^/{inside}]" if negated else f"[{inside}]"
        else:
            expression += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return expression


def _in_folder(folder: Place, key: str) -> list[Place]:
    names = [place.name for place in folder.children()]
    if "dataset_dict.json" in names:
        splits = ", ".join(place.name for place in folder.children() if place.is_folder())
        raise UserError(f"{key}: {folder} holds several splits; name one of them: {splits}")
    found = [place for place in folder.children() if place.name not in _NO_DATA and _kind(place.name) is not None]
    if not found:
        raise UserError(f"{key}: no {', '.join(KINDS)} file in {folder}")
    return found


def _kind(name: str) -> tuple[str, str | None] | None:
    compression = next((codec for ending, codec in COMPRESSIONS.items() if name.endswith(ending)), None)
    plain = name.rpartition(".")[0] if compression else name
    kind = next((kind for ending, kind in KINDS.items() if plain.endswith(ending)), None)
    return (kind, compression) if kind else None


def _source_file(source: int, place: Place) -> SourceFile:
    known = _kind(place.name)
    if known is None:
        endings = ", ".join(KINDS)
        raise UserError(f"{place}: unknown file type; use {endings}, JSON also with {' or '.join(COMPRESSIONS)}")
    kind, compression = known
    if compression and kind in _NOT_COMPRESSED:
        raise UserError(f"{place}: {kind} is not read inside {compression}; unpack the file")
    info = place.info()
    if not info.size:
        raise UserError(f"{place}: is empty")
    return SourceFile(source, place, kind, compression, size=info.size, modified_ns=info.mtime_ns or 0)
