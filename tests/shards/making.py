"""Makes shards for tests and reads them back, without the stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from crlft_ray.config import Config, validate
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.prepare import Prepared, Sizes, prepare
from crlft_ray.storage import Place
from tests.synthetic import raw_config

SMALL = Sizes(smallest_piece=20_000, largest_piece=20_000, spill=60_000, bucket=60_000)
"""Several pieces, spills and shards of a small input."""


def config_of(model: Path, output: Path | str, sources: list[dict[str, Any]], **data: Any) -> Config:
    """A config over `sources`; `data` are further keys of that section."""
    raw = raw_config(model, output, "")
    raw["data"].update(sources=sources, **data)
    raw["train"]["global_batch_tokens"] = 4 * raw["data"]["pack_tokens"]
    return validate(raw, "test")


def prepared(model: Path, output: Path | str, sources: list[dict[str, Any]], **data: Any) -> Prepared:
    return prepare(config_of(model, output, sources, **data), SMALL)


def rated(path: Path, **more: Any) -> dict[str, Any]:
    """A source of `write_conversations`."""
    return {"path": str(path), "class": {"field": "rating", "ranges": {"expert": [8, 10], "mixed": [1, 7]}}, **more}


def read_packs(folder: Place | str, manifest: Manifest) -> list[list[dict[str, Any]]]:
    """All packs in the order of their numbers, by pyarrow alone."""
    place = folder if isinstance(folder, Place) else Place.of(folder)
    packs = []
    for shard in manifest.shards:
        reader = pa.ipc.open_file(pa.BufferReader((place / shard.file).read_bytes()))
        packs += [reader.get_batch(number).to_pylist() for number in range(reader.num_record_batches)]
    return packs


def read_heldout(folder: str) -> list[dict[str, Any]]:
    with (Path(folder) / "heldout.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every file's bytes."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
