"""`crlft prepare`: conversations become tagged Arrow shards, the same bytes however many CPUs do it.

    pieces of the sources ──tokenise──▶ spills, sorted into buckets by content hash ──merge──▶ one shard a bucket

Both arrows are Ray tasks; what lies between them is on storage, so that memory does not grow with the input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crlft_ray.assets import asset_path
from crlft_ray.config import Config
from crlft_ray.conversations.files import SourceFile, cut, find_files
from crlft_ray.diagnosis.ready import refuse_unready
from crlft_ray.errors import UserError
from crlft_ray.lease import owned
from crlft_ray.shards.manifest import (
    FORMAT_VERSION,
    HELDOUT,
    MANIFEST,
    REJECTED,
    TOKENIZER,
    Manifest,
    read_manifest,
)
from crlft_ray.shards.merge import merge_bucket
from crlft_ray.shards.summary import check_rejected, manifest_of
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.shards.tokenise import spill_piece
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, load_chat_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """Bytes of the parts that tasks work on; together with the input alone they decide the shards."""

    smallest_piece: int = 1 << 20
    largest_piece: int = 32 << 20
    """Of the input."""
    spill: int = 64 << 20
    """Of tokenised conversations in memory."""
    bucket: int = 32 << 20
    """Of the input, that become one shard."""


DEFAULT_SIZES = Sizes()


@dataclass(frozen=True)
class Prepared:
    """Result of `prepare`."""

    folder: str
    manifest: Manifest
    unchanged: bool
    """Nothing had to be done."""
    seconds: float
    """Time after Ray had started."""


def shards_folder(config: Config) -> Place:
    """Where a run's shards lie."""
    return Place.of(config.data.shards) if config.data.shards else Place.of(config.output) / "shards"


def model_path(config: Config) -> str:
    """Where transformers finds the model's config and tokenizer; of a model on storage they are brought here, without
    its weights."""
    fetched = asset_path(config.model)
    if fetched is None and "://" in config.model:
        from crlft_ray.model.find import without_weights

        return str(without_weights(config.model))
    return str(fetched) if fetched else config.model


def chat_tokenizer(config: Config) -> ChatTokenizer:
    """The model's tokenizer with the config's template."""
    return load_chat_tokenizer(model_path(config), config.template, config.condition())


def prepare(config: Config, sizes: Sizes = DEFAULT_SIZES, *, needed: str | None = None) -> Prepared:
    """Makes the shards of a run, or finds them made.

    Args:
        needed: fingerprint of shards that something begun before goes on with; they are not replaced by others.

    Raises:
        UserError: the input cannot be used, or makes other shards than those needed; what was there before stays as
            it was.
    """
    tokenizer = chat_tokenizer(config)
    files = [file for number in range(len(config.data.sources)) for file in _files(config, number)]
    folder = shards_folder(config)
    request = _request(config, tokenizer, files)
    there = _prepared(folder)
    if there is not None and _request_of(there) == request:
        return Prepared(str(folder), there, unchanged=True, seconds=0.0)
    if config.data.shards:
        found = "holds no shards" if there is None else "holds shards of other conversations or settings"
        raise UserError(
            f"data.shards: {folder} {found}; give the folder that this config's shards are in, or drop data.shards to "
            "make them in the output"
        )
    from crlft_ray.ray_session import connect

    with owned(config.output):
        connect(warm_up=True)
        began = time.perf_counter()
        keep = there if there is not None and there.fingerprint == needed else None
        manifest = _replace_shards(config, tokenizer, files, sizes, request, keep)
    return Prepared(str(folder), manifest, unchanged=False, seconds=time.perf_counter() - began)


def _replace_shards(
    config: Config,
    tokenizer: ChatTokenizer,
    files: Sequence[SourceFile],
    sizes: Sizes,
    request: Any,
    keep: Manifest | None,
) -> Manifest:
    log.info("preparing shards from %d file(s), %.1f MB", len(files), sum(file.size for file in files) / 1e6)
    output = Place.of(config.output)
    if output.is_folder():
        # Left by a start that was killed; the folder is this process's alone.
        for left in output.children():
            if re.fullmatch(r"shards\.\d+\.(part|old)", left.name):
                left.remove()
    scratch = output / f"shards.{os.getpid()}.part"
    try:
        manifest = _prepare_in(scratch, config, tokenizer, files, sizes, request)
        if keep is not None and keep.fingerprint != manifest.fingerprint:
            raise UserError(
                f"output: {output} holds a run on other data ({keep.fingerprint[:12]}, now "
                f"{manifest.fingerprint[:12]}), whose shards were left as they are; bring its conversations and "
                "settings back, choose another output folder, or start over with --fresh"
            )
        shards_folder(config).replace_with(scratch, last=MANIFEST)
    finally:
        scratch.remove()
    return manifest


def _files(config: Config, number: int) -> list[SourceFile]:
    path = config.data.sources[number].path
    fetched = asset_path(path)
    return find_files(number, str(fetched) if fetched else path)


def _request(config: Config, tokenizer: ChatTokenizer, files: Sequence[SourceFile]) -> tuple[Any, ...]:
    """Settings that go into the fingerprint, the held-out share, and the sources."""
    settings = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer.digest,
        # In their order: shards know a class by its number.
        "classes": [[name, spec.condition] for name, spec in config.classes.items()],
        "context": config.data.context,
        "pack_tokens": config.data.pack_tokens,
    }
    sources = [
        {
            **source.model_dump(mode="json", by_alias=True),
            "files": [[str(f.place), f.size, f.modified_ns] for f in files if f.source == number],
        }
        for number, source in enumerate(config.data.sources)
    ]
    return json.loads(json.dumps((settings, config.data.holdout, sources)))  # type: ignore[no-any-return]


def _request_of(manifest: Manifest) -> Any:
    return [manifest.settings, manifest.counts["holdout"], manifest.sources]


def _prepared(folder: Place) -> Manifest | None:
    """What is there already, unless it is damaged and has to be made again."""
    try:
        return read_manifest(folder) if folder.exists() else None
    except UserError as error:
        log.warning("making the shards again: %s", error)
        return None


def _prepare_in(
    scratch: Place, config: Config, tokenizer: ChatTokenizer, files: Sequence[SourceFile], sizes: Sizes, request: Any
) -> Manifest:
    for folder in ("spill", "heldout"):
        (scratch / folder).make_folder()
    refuse_unready({"output": scratch, **{f"data.sources.{file.source}.path": file.place for file in files}})
    size = sum(file.size for file in files)
    piece_bytes = min(max(size // 256, sizes.smallest_piece), sizes.largest_piece)
    pieces = [piece for file in files for piece in cut(file, piece_bytes)]
    buckets = max(1, size // sizes.bucket)
    counts = run_tasks(
        spill_piece,
        [(piece, scratch / "spill" / f"{number:06}.arrow") for number, piece in enumerate(pieces)],
        config=config,
        tokenizer=tokenizer,
        buckets=buckets,
        most_bytes=sizes.spill,
    )
    check_rejected(config, pieces, counts, scratch / REJECTED)
    heldout = [scratch / "heldout" / f"{bucket:05}.jsonl" for bucket in range(buckets)]
    merged = run_tasks(
        merge_bucket,
        [(bucket, scratch / f"shard-{bucket:05}.arrow", heldout[bucket]) for bucket in range(buckets)],
        spills=[spill for count in counts for spill in count.spills],
        classes=len(config.classes),
        pack_tokens=config.data.pack_tokens,
    )
    manifest = manifest_of(config, counts, merged, request)
    (scratch / HELDOUT).write_parts(part.read_bytes() for part in heldout)
    for folder in ("spill", "heldout"):
        (scratch / folder).remove()
    (scratch / TOKENIZER).write_text(tokenizer.to_json())
    (scratch / MANIFEST).write_text(manifest.to_json())
    return manifest
