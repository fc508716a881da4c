"""Streams a rank's packs, in order, through a small Ray Data pipeline of its own."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.order import Order
from crlft_ray.shards.shard import Pack, pack_of, read_pack
from crlft_ray.storage import Place

T = TypeVar("T")
_READ_PACKS = 8
_TASK_PACKS = 64
_MOST_TASKS = 256
_READ_AHEAD_BYTES = 256 << 20


class PackReader:
    """Reads packs by their number over all shards of a folder."""

    def __init__(self, folder: Place, manifest: Manifest) -> None:
        # Plain texts: a reader goes to every task, and there may be a hundred thousand shards.
        self._folder, self._shards = folder, [(shard.file, shard.sha256) for shard in manifest.shards]
        self._ends = np.cumsum([shard.packs for shard in manifest.shards]).tolist()

    def __call__(self, number: int) -> pa.RecordBatch:
        """The rows of pack `number`.

        Raises:
            UserError: the shard is missing or damaged.
        """
        shard = bisect.bisect_right(self._ends, number)
        begin = self._ends[shard - 1] if shard else 0
        file, sha256 = self._shards[shard]
        return read_pack(self._folder / file, sha256, number - begin)


def stream(
    folder: Place, manifest: Manifest, order: Order, *, first_step: int, last_step: int, rank: int, world_size: int
) -> Iterator[Pack]:
    """Yields the packs that rank `rank` of `world_size` learns from in steps [first_step, last_step).

    Reads ahead in bounded memory. Its tasks ask for no CPU, because on a cluster whose CPUs are all taken by workers
    they would otherwise never start.

    Raises:
        UserError: a shard is missing or damaged.
    """
    count = order.count(first_step, last_step, rank, world_size)
    if not count:
        return
    from ray.data import DataContext, ExecutionResources, TaskPoolStrategy, from_items

    # Its import has set the level. Every pipeline is announced; errors stay.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=_READ_AHEAD_BYTES)
    # Nothing is read while a training evaluates, however long that takes.
    context.execution_no_progress_timeout_s = -1
    # Small blocks leave a task while it is still reading, so the first pack does not wait for the last.
    context.target_max_block_size = 1 << 20
    reader = PackReader(folder, manifest)

    def read(batch: dict[str, Any]) -> Iterator[pa.Table]:
        for start in range(int(batch["start"][0]), int(batch["stop"][0]), _READ_PACKS):
            indices = np.arange(start, min(start + _READ_PACKS, int(batch["stop"][0])))
            numbers = order.pack_numbers(first_step, indices, rank, world_size)
            yield _one_row_a_pack([reader(int(number)) for number in numbers])

    each = max(_TASK_PACKS, -(-count // _MOST_TASKS))
    spans = [{"start": start, "stop": min(start + each, count)} for start in range(0, count, each)]
    with DataContext.current(context):
        # A list of items needs no reading task, which would ask for a CPU.
        dataset = from_items(spans, override_num_blocks=len(spans)).map_batches(
            read, batch_size=1, num_cpus=0, compute=TaskPoolStrategy(size=min(2, len(spans)))
        )
        try:
            for batch in dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=8):
                rows = batch.column("pack").combine_chunks().flatten()
                yield pack_of(pa.RecordBatch.from_struct_array(rows))
        except UserError as error:
            # Ray raises one of its own that has the task's trace and advice for programmers in it.
            raise UserError(str(getattr(error, "cause", error)).partition("\n")[0]) from None


def started(items: Iterator[T]) -> Iterator[T]:
    """The same items; what would begin when the first is asked for begins at once, in a thread.

    A stream's tasks take seconds to start, which a worker needs for its model anyway.
    """
    pool = ThreadPoolExecutor(1, "crlft-stream")
    first = pool.submit(next, items, None)
    pool.shutdown(wait=False)

    def whole() -> Iterator[T]:
        item = first.result()
        if item is not None:
            yield item
            yield from items

    return whole()


def _one_row_a_pack(packs: list[pa.RecordBatch]) -> pa.Table:
    offsets = np.cumsum([0, *(len(pack) for pack in packs)], dtype=np.int32)
    rows = pa.Table.from_batches(packs).combine_chunks().to_struct_array().combine_chunks()
    return pa.table({"pack": pa.ListArray.from_arrays(pa.array(offsets), rows)})
