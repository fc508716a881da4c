"""Finds damaged shards before a run starts, not in the middle of it."""

from __future__ import annotations

import hashlib

from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest, ShardInfo
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.storage import Place


def verify_shards(folder: Place, manifest: Manifest) -> None:
    """Compares every shard's SHA-256 with the manifest's.

    Raises:
        UserError: a shard is missing or damaged; the message names the file.
    """
    run_tasks(_verify, [(folder, shard) for shard in manifest.shards], num_cpus=0)


def _verify(folder: Place, shard: ShardInfo) -> None:
    place = folder / shard.file
    digest = hashlib.sha256()
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"{place}: this shard cannot be read: {error}; run `crlft prepare` again") from None
    if digest.hexdigest() != shard.sha256:
        raise UserError(f"{place}: this shard is damaged (its SHA-256 is another than the manifest's); prepare again")
