"""What became of the rows: the report of rejected ones, and the manifest."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from crlft_ray.config import Config
from crlft_ray.conversations.files import Piece
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import REJECTED, ClassCounts, Manifest, ShardInfo, fingerprint
from crlft_ray.shards.merge import BucketCounts
from crlft_ray.shards.tokenise import SHOWN_REJECTED, PieceCounts
from crlft_ray.storage import Place


def check_rejected(config: Config, pieces: Sequence[Piece], counts: Sequence[PieceCounts], report: Place) -> None:
    """Writes the rejected rows to `report`, however many they are.

    Raises:
        UserError: they are more than `data.max_rejected`; the report is beside the shards' folder then.
    """
    rejected, rows = sum(count.rejected for count in counts), sum(count.rows for count in counts)
    kept = Place.of(config.output) / REJECTED
    too_many = rejected > config.data.max_rejected * rows
    (kept if too_many else report).write_parts(_report(pieces, counts))
    if too_many:
        first = islice(_places(pieces, counts), SHOWN_REJECTED)
        raise UserError(
            f"{rejected} of {rows} rows cannot be used, more than data.max_rejected = "
            f"{config.data.max_rejected:g} allows; all are in {kept}. The first:{''.join(first)}"
        )
    kept.remove()


def _report(pieces: Sequence[Piece], counts: Sequence[PieceCounts]) -> Iterator[bytes]:
    """A JSON line for each rejected row: file, line or row from 1, and the reason."""
    for piece, first, count in _with_first(pieces, counts):
        if count.rejected_file is None:
            continue
        with count.rejected_file.filesystem.open_input_stream(count.rejected_file.path) as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                position, reason = json.loads(line)
                row = {"file": str(piece.file.place), _unit(piece): first + position + 1, "reason": reason}
                yield json.dumps(row).encode() + b"\n"


def _places(pieces: Sequence[Piece], counts: Sequence[PieceCounts]) -> Iterator[str]:
    for piece, first, count in _with_first(pieces, counts):
        for position, reason in count.first_rejected:
            yield f"\n  {piece.file.place}, {_unit(piece)} {first + position + 1}: {reason}"


def _with_first(pieces: Sequence[Piece], counts: Sequence[PieceCounts]) -> Iterator[tuple[Piece, int, PieceCounts]]:
    """Each piece with how many lines of its file lie before it."""
    first = 0
    for number, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
        if number and pieces[number - 1].file != piece.file:
            first = 0
        yield piece, first, count
        first += count.lines


def _unit(piece: Piece) -> str:
    return "line" if piece.file.kind == "jsonl" else "row"


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
            "rejected": sum(count.rejected for count in counts),
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
