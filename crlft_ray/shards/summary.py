"""What became of the rows: the report of rejected ones, and the manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from crlft_ray.config import Config
from crlft_ray.conversations.files import Piece
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import REJECTED, ClassCounts, Manifest, ShardInfo, fingerprint
from crlft_ray.shards.merge import BucketCounts
from crlft_ray.shards.tokenise import PieceCounts
from crlft_ray.storage import Place

_SHOWN = 5


def check_rejected(config: Config, pieces: Sequence[Piece], counts: Sequence[PieceCounts], report: Place) -> None:
    """Writes the rejected rows to `report`.

    Raises:
        UserError: they are more than `data.max_rejected`; the report is beside the shards' folder then.
    """
    rejected = list(_rejected(pieces, counts))
    rows = sum(count.rows for count in counts)
    kept = Place.of(config.output) / REJECTED
    too_many = bool(rejected) and len(rejected) > config.data.max_rejected * rows
    lines = [json.dumps({"file": file, unit: number, "reason": reason}) for file, unit, number, reason in rejected]
    (kept if too_many else report).write_text("".join(f"{line}\n" for line in lines))
    if too_many:
        shown = "".join(f"\n  {file}, {unit} {number}: {reason}" for file, unit, number, reason in rejected[:_SHOWN])
        raise UserError(
            f"{len(rejected)} of {rows} rows cannot be used, more than data.max_rejected = "
            f"{config.data.max_rejected:g} allows; all are in {kept}. The first:{shown}"
        )
    kept.remove()


def _rejected(pieces: Sequence[Piece], counts: Sequence[PieceCounts]) -> Iterator[tuple[str, str, int, str]]:
    """File, line or row, its number from 1, and the reason."""
    first = 0
    for number, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
        if number and pieces[number - 1].file != piece.file:
            first = 0
        unit = "line" if piece.file.kind == "jsonl" else "row"
        for position, reason in count.rejected:
            yield str(piece.file.place), unit, first + position + 1, reason
        first += count.lines


def manifest_of(
    config: Config, counts: Sequence[PieceCounts], merged: Sequence[BucketCounts], request: Any
) -> Manifest:
    """Sums up what the tasks counted.

    Raises:
        UserError: a class has no conversation.
    """
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
