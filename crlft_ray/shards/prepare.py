"""`crlft prepare`: conversations become tagged Arrow shards, the same bytes however many CPUs do it.

    pieces of the sources ──tokenise──▶ spills, sorted into buckets by content hash ──merge──▶ one shard a bucket

Both arrows are Ray Data tasks; what lies between them is on storage, so that memory does not grow with the input.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crlft_ray.assets import asset_path
from crlft_ray.config import Config
from crlft_ray.conversations.files import Piece, SourceFile, cut, find_files
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import (
    FORMAT_VERSION,
    HELDOUT,
    MANIFEST,
    REJECTED,
    TOKENIZER,
    ClassCounts,
    Manifest,
    ShardInfo,
    fingerprint,
    read_manifest,
)
from crlft_ray.shards.merge import BucketCounts, merge_bucket
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.shards.tokenise import PieceCounts, spill_piece
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, load_chat_tokenizer

log = logging.getLogger(__name__)

_BUCKET_BYTES = 32 << 20
_SMALLEST_PIECE, _LARGEST_PIECE = 1 << 20, 32 << 20


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
    return Place.of(config.output) / "shards"


def model_path(config: Config) -> str:
    """The model as transformers takes it: a fetched name becomes its folder."""
    fetched = asset_path(config.model)
    return str(fetched) if fetched else config.model


def chat_tokenizer(config: Config) -> ChatTokenizer:
    """The model's tokenizer with the config's template."""
    return load_chat_tokenizer(model_path(config), config.template, config.condition())


def prepare(config: Config) -> Prepared:
    """Makes the shards of a run, or finds them made.

    Raises:
        UserError: the input cannot be used; what was there before stays as it was.
    """
    tokenizer = chat_tokenizer(config)
    files = [file for number in range(len(config.data.sources)) for file in _files(config, number)]
    folder = shards_folder(config)
    request = _request(config, tokenizer, files)
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        if _request_of(manifest) == request:
            return Prepared(str(folder), manifest, unchanged=True, seconds=0.0)
    from crlft_ray.ray_session import connect

    connect()
    log.info("preparing shards from %d file(s), %.1f MB", len(files), sum(file.size for file in files) / 1e6)
    began = time.perf_counter()
    scratch = Place.of(config.output) / f"shards.{os.getpid()}.part"
    try:
        manifest = _prepare_in(scratch, config, tokenizer, files, request)
        folder.remove()
        scratch.move_to(folder)
    finally:
        scratch.remove()
    return Prepared(str(folder), manifest, unchanged=False, seconds=time.perf_counter() - began)


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


def _prepare_in(
    scratch: Place, config: Config, tokenizer: ChatTokenizer, files: Sequence[SourceFile], request: Any
) -> Manifest:
    (scratch / "spill").make_folder()
    size = sum(file.size for file in files)
    piece_bytes = min(max(size // 256, _SMALLEST_PIECE), _LARGEST_PIECE)
    pieces = [piece for file in files for piece in cut(file, piece_bytes)]
    buckets = max(1, size // _BUCKET_BYTES)
    spills = [scratch / "spill" / f"{number:06}.arrow" for number in range(len(pieces))]
    counts = run_tasks(
        spill_piece, list(zip(pieces, spills, strict=True)), config=config, tokenizer=tokenizer, buckets=buckets
    )
    _check_rejected(config, pieces, counts, scratch / REJECTED)
    merged = run_tasks(
        merge_bucket,
        [(bucket, scratch / f"shard-{bucket:05}.arrow") for bucket in range(buckets)],
        spills=spills,
        classes=len(config.classes),
        pack_tokens=config.data.pack_tokens,
    )
    (scratch / "spill").remove()
    manifest = _manifest(config, counts, merged, request)
    (scratch / HELDOUT).write_text("".join(f"{line}\n" for part in merged for line in part.heldout_lines))
    (scratch / TOKENIZER).write_text(tokenizer.to_json())
    (scratch / MANIFEST).write_text(manifest.to_json())
    return manifest


def _check_rejected(config: Config, pieces: Sequence[Piece], counts: Sequence[PieceCounts], report: Place) -> None:
    lines, first_line = [], 0
    for number, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
        if number and pieces[number - 1].file != piece.file:
            first_line = 0
        unit = "line" if piece.file.kind == "jsonl" else "row"
        for position, reason in count.rejected:
            lines.append({"file": str(piece.file.place), unit: first_line + position + 1, "reason": reason})
        first_line += count.lines
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    report.write_text(text)
    rows = sum(count.rows for count in counts)
    if lines and len(lines) > config.data.max_rejected * rows:
        kept = Place.of(config.output) / REJECTED
        kept.write_text(text)
        shown = [f"  {row['file']}, {next(iter(row.keys() - {'file', 'reason'}))} "
                 f"{row.get('line', row.get('row'))}: {row['reason']}" for row in lines[:5]]  # fmt: skip
        raise UserError(
            f"{len(lines)} of {rows} rows cannot be used, more than data.max_rejected = {config.data.max_rejected:g} "
            f"allows; all are in {kept}. The first:\n" + "\n".join(shown)
        )


def _manifest(
    config: Config, counts: Sequence[PieceCounts], merged: Sequence[BucketCounts], request: Any
) -> Manifest:
    settings, holdout, sources = request
    shards = [ShardInfo(f"shard-{n:05}.arrow", part.packs, part.tokens, part.sha256) for n, part in enumerate(merged)]
    classes = [
        ClassCounts(
            name,
            spec.condition,
            conversations=sum(part.conversations[number] for part in merged),
            tokens=sum(part.class_tokens[number] for part in merged),
            learned_tokens=sum(part.learned_tokens[number] for part in merged),
            held_out=sum(part.held_out[number] for part in merged),
        )
        for number, (name, spec) in enumerate(config.classes.items())
    ]
    empty = [counts.name for counts in classes if not counts.conversations]
    if empty:
        raise UserError(f"classes.{empty[0]}: no conversation of this class is left to train on in data.sources")
    packs, tokens = sum(shard.packs for shard in shards), sum(shard.tokens for shard in shards)
    return Manifest(
        fingerprint=fingerprint(settings, shards),
        settings=settings,
        classes=classes,
        counts={
            "rows": sum(count.rows for count in counts),
            "rejected": sum(len(count.rejected) for count in counts),
            "cleaned": dict(sorted(sum((count.cleaned for count in counts), Counter[str]()).items())),
            "not_sampled": sum(count.not_sampled for count in counts),
            "duplicates": sum(part.duplicates for part in merged),
            "held_out": sum(sum(part.held_out) for part in merged),
            "truncated": sum(part.truncated for part in merged),
            "holdout": holdout,
        },
        packs=packs,
        tokens=tokens,
        fill=tokens / (packs * config.data.pack_tokens),
        shards=shards,
        sources=sources,
    )


