"""The shard file: Arrow IPC in which a row is a tagged, tokenised conversation and a record batch is a pack."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from crlft_ray.errors import UserError
from crlft_ray.storage import Place, patiently

SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("weight", pa.float32())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("class", pa.int8(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("learn", pa.list_(SPAN), nullable=False),
    ]
)
OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")
_MOST_OPEN = 256


@dataclass(frozen=True)
class Pack:
    """One pack, its conversations laid end to end: T tokens, C conversations, S learned spans.

    input_ids_T  | a a a a a | b b b | c c c c |
    lengths_C    |     5     |   3   |    4    |
    classes_C    |     0     |   1   |    0    |
    spans_S            [2,5)   [7,8)   [10,12)     positions in the pack
    """

    input_ids_T: npt.NDArray[np.int32]
    lengths_C: npt.NDArray[np.int32]
    classes_C: npt.NDArray[np.int8]
    starts_S: npt.NDArray[np.int32]
    ends_S: npt.NDArray[np.int32]
    weights_S: npt.NDArray[np.float32]
    """Message weights, not class weights."""
    span_conversations_S: npt.NDArray[np.int32]
    """Which conversation of the pack each span belongs to."""


def write_shard(place: Place, table: pa.Table, packs: Sequence[Sequence[int]]) -> str:
    """Writes the rows of `table` (of `SCHEMA`) as packs of row numbers; returns the file's SHA-256."""
    ordered = table.select(SCHEMA.names).take(pa.array([row for pack in packs for row in pack], pa.int64()))
    rows = ordered.combine_chunks().to_batches()
    batch = rows[0] if rows else pa.RecordBatch.from_pylist([], SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA, options=OPTIONS) as writer:
        start = 0
        for pack in packs:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.slice(start, len(pack)).columns, schema=SCHEMA))
            start += len(pack)
    content = sink.getvalue()
    place.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_pack(place: Place, sha256: str, number: int) -> pa.RecordBatch:
    """The record batch of one pack; `sha256` tells this shard from another one that was at the same place before.

    Raises:
        UserError: the shard is missing or damaged.
    """

    def read() -> pa.RecordBatch:
        try:
            return _open_shard(place, sha256).get_batch(number)
        except OSError:
            _open_shards.pop(sha256, None)
            raise

    try:
        return patiently(place, read)
    except (OSError, pa.ArrowInvalid) as error:
        message = f"{place}: missing or damaged shard: {error}; run `crlft prepare` again"
        raise UserError(message) from None


def pack_of(batch: pa.RecordBatch) -> Pack:
    """Lays the conversations of a record batch end to end."""
    ids, learn = batch.column("input_ids"), batch.column("learn")
    lengths_C = ids.value_lengths().to_numpy(zero_copy_only=False).astype(np.int32)
    spans = learn.flatten()
    span_conversations_S = np.repeat(np.arange(len(batch), dtype=np.int32), learn.value_lengths().to_numpy())
    offsets_C = np.concatenate([[0], np.cumsum(lengths_C)[:-1]]).astype(np.int32)
    shift_S = offsets_C[span_conversations_S] if len(spans) else np.zeros(0, np.int32)
    return Pack(
        input_ids_T=ids.flatten().to_numpy(zero_copy_only=False),
        lengths_C=lengths_C,
        classes_C=batch.column("class").to_numpy(),
        starts_S=spans.field("start").to_numpy() + shift_S,
        ends_S=spans.field("end").to_numpy() + shift_S,
        weights_S=spans.field("weight").to_numpy(),
        span_conversations_S=span_conversations_S,
    )


_open_shards: dict[str, Any] = {}


def _open_shard(place: Place, sha256: str) -> Any:
    """An open shard; kept, because every pack of a random order needs another one."""
    if sha256 not in _open_shards:
        if len(_open_shards) >= _MOST_OPEN:
            _open_shards.pop(next(iter(_open_shards)))
        file = pa.memory_map(place.path) if place.is_local else place.filesystem.open_input_file(place.path)
        _open_shards[sha256] = pa.ipc.open_file(file)
    return _open_shards[sha256]
