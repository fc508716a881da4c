"""Finds damaged shards before a run starts, not in the middle of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pyarrow import fs

from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest, ShardInfo
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.storage import Place

VERIFIED = "verified.json"


def verify_shards(folder: Place, manifest: Manifest, remembered: Place | None = None) -> None:
    """Compares every shard's SHA-256 with the manifest's.

    Args:
        remembered: file that holds which shards were found whole, and of what size and time each was; those that are
            as they were are not read again, so that a run that goes on does not wait for all of its data to be read.

    Raises:
        UserError: a shard is missing or damaged; the message names the file.
    """
    known = _known(remembered) if remembered else {}
    # Before they are read: a shard that is replaced meanwhile is another one the next time.
    now = _state(folder, manifest)
    unknown = [shard for shard in manifest.shards if shard.file not in now or known.get(shard.file) != now[shard.file]]
    run_tasks(_verify, [(folder, shard) for shard in unknown], num_cpus=0)
    if remembered and unknown:
        remembered.parent.make_folder()
        remembered.write_text(json.dumps(now))


def _known(remembered: Place) -> dict[str, Any]:
    if not remembered.exists():
        return {}
    try:
        return dict(json.loads(remembered.read_text()))
    except (ValueError, TypeError):
        # Damaged: all shards are read, and it is written anew.
        return {}


def _state(folder: Place, manifest: Manifest) -> dict[str, Any]:
    """What tells a shard that was read from any other: [the folder, its SHA-256, bytes, time]."""
    infos = folder.filesystem.get_file_info(fs.FileSelector(folder.path))
    found = {folder.at(info.path).name: [info.size, info.mtime_ns] for info in infos}
    return {
        shard.file: [str(folder), shard.sha256, *found[shard.file]] for shard in manifest.shards if shard.file in found
    }


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
