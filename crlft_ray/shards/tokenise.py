"""First half of `prepare`: a piece of a source becomes tokenised conversations, sorted into buckets."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from crlft_ray.config import Config
from crlft_ray.conversations.classify import class_of
from crlft_ray.conversations.clean import CleanedRow, clean
from crlft_ray.conversations.conversation import Conversation
from crlft_ray.conversations.files import Piece
from crlft_ray.conversations.formats import RejectedRow, parse_row
from crlft_ray.conversations.rows import BLANK, Row, read_rows
from crlft_ray.shards.shard import SCHEMA, SPAN
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, encode

_BATCH = 256
SHOWN_REJECTED = 5
"""Rejected rows of each piece that are known without their file."""
SPILL_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("held_out", pa.bool_()),
        pa.field("truncated", pa.bool_()),
        pa.field("repeat", pa.int32()),
        pa.field("text", pa.string()),
    ]
)


@dataclass
class PieceCounts:
    """What became of a piece's rows."""

    lines: int = 0
    """Lines (JSONL) or rows, empty lines included: where the next piece's lines begin."""
    rows: int = 0
    rejected: int = 0
    first_rejected: list[tuple[int, str]] = field(default_factory=list)
    """Position in the piece, and the reason; the others are only in the file."""
    rejected_file: Place | None = None
    """JSON lines of the same for all."""
    cleaned: Counter[str] = field(default_factory=Counter)
    not_sampled: int = 0
    spills: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class _Tagged:
    """A conversation on its way into a bucket."""

    id: bytes
    conversation: Conversation
    held_out: bool
    repeat: int


def share(id: bytes, purpose: str) -> float:
    """A number in [0, 1) that depends on a conversation's content and a purpose alone."""
    digest = hashlib.blake2b(id, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def bucket_of(id: bytes, buckets: int) -> int:
    """Where a conversation goes; the same content always goes to the same bucket."""
    return int.from_bytes(id[:8], "big") * buckets >> 64


def spill_piece(
    piece: Piece, target: Place, *, config: Config, tokenizer: ChatTokenizer, buckets: int, most_bytes: int
) -> PieceCounts:
    """Reads, cleans and tokenises a piece and writes Arrow files (target.0, target.1, …) in which record batch b is
    bucket b; each of about `most_bytes`, so that memory is bounded even for pieces that cannot be cut, such as gzip.

    Raises:
        UserError: the file is damaged.
    """
    counts = PieceCounts()
    with _RejectedRows(target, counts) as rejected:
        _spill_rows(_tagged(piece, config, counts, rejected), target, config, tokenizer, buckets, most_bytes, counts)
    return counts


class _RejectedRows:
    """Writes them down as they come: there may be as many as rows."""

    def __init__(self, target: Place, counts: PieceCounts) -> None:
        self._place = target.at(f"{target.path}.rejected")
        self._counts = counts
        self._stream: Any = None

    def __enter__(self) -> _RejectedRows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, position: int, reason: str) -> None:
        """A row of the piece that cannot be used."""
        if self._stream is None:
            self._counts.rejected_file = self._place
            self._stream = self._place.filesystem.open_output_stream(self._place.path)
        self._stream.write(json.dumps([position, reason]).encode() + b"\n")
        self._counts.rejected += 1
        if len(self._counts.first_rejected) < SHOWN_REJECTED:
            self._counts.first_rejected.append((position, reason))


def _spill_rows(
    rows: Iterator[_Tagged],
    target: Place,
    config: Config,
    tokenizer: ChatTokenizer,
    buckets: int,
    most_bytes: int,
    counts: PieceCounts,
) -> None:
    tables: list[pa.Table] = []
    while batch := list(itertools.islice(rows, _BATCH)):
        tables.append(_tokenised(batch, config, tokenizer, counts))
        if sum(table.nbytes for table in tables) >= most_bytes:
            counts.spills.append(_spill(tables, buckets, target, len(counts.spills)))
            tables = []
    if tables:
        counts.spills.append(_spill(tables, buckets, target, len(counts.spills)))


def _tagged(piece: Piece, config: Config, counts: PieceCounts, rejected: _RejectedRows) -> Iterator[_Tagged]:
    source = config.data.sources[piece.file.source]
    for row in read_rows(piece):
        counts.lines = row.position + 1
        if row.value is BLANK:
            continue
        counts.rows += 1
        try:
            conversation = _conversation(row, config, piece.file.source)
        except RejectedRow as reason:
            rejected.add(row.position, str(reason))
            continue
        except CleanedRow as kind:
            counts.cleaned[str(kind)] += 1
            continue
        id = conversation.id
        if source.sample < 1 and share(id, "sample") >= source.sample:
            counts.not_sampled += 1
            continue
        yield _Tagged(id, conversation, share(id, "holdout") < config.data.holdout, source.repeat)


def _conversation(row: Row, config: Config, source_number: int) -> Conversation:
    if isinstance(row.value, RejectedRow):
        raise row.value
    source = config.data.sources[source_number]
    system, turns = parse_row(row.value, source.format, source.message_weights)
    return Conversation(class_of(row.value, source.class_), system, clean(turns))


def _tokenised(batch: Sequence[_Tagged], config: Config, tokenizer: ChatTokenizer, counts: PieceCounts) -> pa.Table:
    conversations = [tagged.conversation for tagged in batch]
    conditions = [config.condition(conversation.class_name) for conversation in conversations]
    encoded = encode(tokenizer, conversations, conditions, config.data.context)
    kept = [number for number, conversation in enumerate(encoded) if conversation.spans]
    if len(kept) < len(batch):
        counts.cleaned["nothing_learned_in_context"] += len(batch) - len(kept)
    numbers = {name: number for number, name in enumerate(config.class_names)}
    columns = [
        pa.array([batch[n].id for n in kept], pa.binary(16)),
        pa.array([numbers[conversations[n].class_name] for n in kept], pa.int8()),
        _lists([encoded[n].input_ids_T for n in kept]),
        _spans([encoded[n].spans for n in kept]),
        pa.array([batch[n].held_out for n in kept], pa.bool_()),
        pa.array([encoded[n].truncated for n in kept], pa.bool_()),
        pa.array([batch[n].repeat for n in kept], pa.int32()),
        pa.array([_heldout_text(batch[n]) for n in kept], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SPILL_SCHEMA)


def _heldout_text(tagged: _Tagged) -> str | None:
    if not tagged.held_out:
        return None
    conversation = tagged.conversation
    turns = [{"role": t.role, "content": t.content, "weight": t.weight} for t in conversation.turns]
    row = {"id": tagged.id.hex(), "class": conversation.class_name, "system": conversation.system, "turns": turns}
    return json.dumps(row)


def _offsets(lengths: list[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))


def _lists(arrays: list[npt.NDArray[np.int32]]) -> pa.ListArray:
    values = np.concatenate([np.zeros(0, np.int32), *arrays])
    return pa.ListArray.from_arrays(_offsets([len(array) for array in arrays]), pa.array(values, pa.int32()))


def _spans(spans: list[list[tuple[int, int, float]]]) -> pa.ListArray:
    flat = [span for each in spans for span in each]
    starts, ends, weights = zip(*flat, strict=True) if flat else ((), (), ())
    struct = pa.StructArray.from_arrays(
        [pa.array(starts, pa.int32()), pa.array(ends, pa.int32()), pa.array(weights, pa.float32())], fields=list(SPAN)
    )
    return pa.ListArray.from_arrays(_offsets([len(each) for each in spans]), struct)


def _spill(tables: list[pa.Table], buckets: int, target: Place, number: int) -> Place:
    table = pa.concat_tables(tables)
    of_row = np.asarray([bucket_of(id, buckets) for id in table.column("id").to_pylist()], dtype=np.int64)
    ordered = table.take(pa.array(np.argsort(of_row, kind="stable"))).combine_chunks()
    sizes = np.bincount(of_row, minlength=buckets)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SPILL_SCHEMA) as writer:
        start = 0
        for size in sizes.tolist():
            part = ordered.slice(start, size).combine_chunks().to_batches()
            writer.write_batch(part[0] if part else pa.RecordBatch.from_pylist([], SPILL_SCHEMA))
            start += size
    place = target.at(f"{target.path}.{number}")
    place.write_bytes(sink.getvalue())
    return place
