"""Second half of `prepare`: one bucket of all pieces becomes one shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from crlft_ray.shards.pack import best_fit_decreasing
from crlft_ray.shards.shard import SCHEMA, write_shard
from crlft_ray.shards.tokenise import SPILL_SCHEMA
from crlft_ray.storage import Place


@dataclass(frozen=True)
class BucketCounts:
    """What a bucket's conversations became; lists are indexed by class."""

    packs: int
    tokens: int
    sha256: str
    duplicates: int
    truncated: int
    conversations: list[int]
    class_tokens: list[int]
    learned_tokens: list[int]
    held_out: list[int]


def merge_bucket(
    bucket: int, target: Place, heldout: Place, *, spills: Sequence[Place], classes: int, pack_tokens: int
) -> BucketCounts:
    """Drops duplicates (the first source keeps its own), writes the held-out to a file, packs the rest into a shard.

    The spills must be in the order of the sources; the result is sorted by content hash and so the same however many
    tasks made the spills.
    """
    table = pa.concat_tables(
        [SPILL_SCHEMA.empty_table(), *(_bucket(spill, bucket) for spill in spills)]
    ).combine_chunks()
    unique = _first_of_each(table.column("id").to_pylist())
    duplicates = len(table) - len(unique)
    table = table.take(pa.array(unique, pa.int64()))
    held_out = table.filter(table.column("held_out"))
    train = table.filter(pc.invert(table.column("held_out")))
    heldout.write_text("".join(f"{line}\n" for line in held_out.column("text").to_pylist()))
    truncated = int(pc.sum(train.column("truncated")).as_py() or 0)
    rounds = _rounds(train.column("repeat").to_numpy())
    train = train.take(pa.array(np.concatenate(rounds))).select(SCHEMA.names).combine_chunks()
    lengths = pc.list_value_length(train.column("input_ids")).to_numpy().astype(np.int64)
    packs = _packs(lengths, [len(rows) for rows in rounds], pack_tokens)
    class_of_row = train.column("class").to_numpy()
    return BucketCounts(
        packs=len(packs),
        tokens=int(lengths.sum()),
        sha256=write_shard(target, train, packs),
        duplicates=duplicates,
        truncated=truncated,
        conversations=_per_class(class_of_row, np.ones(len(train), np.int64), classes),
        class_tokens=_per_class(class_of_row, lengths, classes),
        learned_tokens=_per_class(class_of_row, _learned(train), classes),
        held_out=_per_class(held_out.column("class").to_numpy(), np.ones(len(held_out), np.int64), classes),
    )


def _bucket(spill: Place, bucket: int) -> pa.Table:
    with spill.filesystem.open_input_file(spill.path) as stream:
        return pa.Table.from_batches([pa.ipc.open_file(stream).get_batch(bucket)])


def _first_of_each(ids: list[bytes]) -> list[int]:
    """Positions of each id's first occurrence, sorted by id."""
    first: dict[bytes, int] = {}
    for position, id in enumerate(ids):
        first.setdefault(id, position)
    return [position for _, position in sorted(first.items())]


def _rounds(repeats: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The rows that occur at least once, at least twice, and so on."""
    return [np.flatnonzero(repeats > number) for number in range(max(1, int(repeats.max(initial=0))))]


def _packs(lengths: npt.NDArray[np.int64], rounds: Sequence[int], pack_tokens: int) -> list[list[int]]:
    """Each round is packed by itself, so that no pack holds a conversation twice."""
    packs: list[list[int]] = []
    first = 0
    for size in rounds:
        of_round = best_fit_decreasing(lengths[first : first + size], pack_tokens)
        packs += ([first + row for row in pack] for pack in of_round)
        first += size
    return packs


def _learned(table: pa.Table) -> npt.NDArray[np.int64]:
    learn = table.column("learn").combine_chunks()
    spans = learn.flatten()
    row_of_span = np.repeat(np.arange(len(table)), learn.value_lengths().to_numpy())
    sizes = spans.field("end").to_numpy().astype(np.int64) - spans.field("start").to_numpy()
    return np.bincount(row_of_span, weights=sizes, minlength=len(table)).astype(np.int64)


def _per_class(class_of_row: npt.NDArray[np.int8], values: npt.NDArray[np.int64], classes: int) -> list[int]:
    return [int(values[class_of_row == number].sum()) for number in range(classes)]
