"""manifest.json: what a shard folder holds and how it was made; and the fingerprint over both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from crlft_ray.errors import UserError
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
HELDOUT = "heldout.jsonl"
REJECTED = "rejected.jsonl"


@dataclass(frozen=True)
class ShardInfo:
    """One shard file; pack numbers run through the shards in the manifest's order."""

    file: str
    packs: int
    tokens: int
    sha256: str


@dataclass(frozen=True)
class ClassCounts:
    """What one class has in the shards."""

    name: str
    condition: str
    conversations: int
    tokens: int
    learned_tokens: int
    held_out: int


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json."""

    fingerprint: str
    """SHA-256 over the shards and the settings that made them; never weights, paths or times."""
    settings: dict[str, Any]
    """What decides the shards' bytes beside the input."""
    classes: list[ClassCounts]
    counts: dict[str, Any]
    """rows, rejected, cleaned (by kind), duplicates, held_out, truncated."""
    packs: int
    tokens: int
    fill: float
    """Share of the packs' slots that hold a token."""
    shards: list[ShardInfo]
    sources: list[dict[str, Any]]
    """For each source its rule, what was done with message weights, and its files with size and time."""

    @property
    def pack_tokens(self) -> int:
        return int(self.settings["pack_tokens"])

    @property
    def learned_tokens(self) -> int:
        return sum(counts.learned_tokens for counts in self.classes)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def fingerprint(settings: dict[str, Any], shards: list[ShardInfo]) -> str:
    """Hash of everything that training can see of the data."""
    content = [settings, [shard.sha256 for shard in shards]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Place) -> Manifest:
    """Reads and checks a shard folder's manifest.

    Raises:
        UserError: there is none, it is of another format version, or a shard file is missing.
    """
    place = folder / MANIFEST
    if not place.exists():
        raise UserError(f"{folder}: no shards here (no {MANIFEST}); run `crlft prepare` first")
    try:
        raw = json.loads(place.read_text())
        raw["classes"] = [ClassCounts(**counts) for counts in raw["classes"]]
        raw["shards"] = [ShardInfo(**shard) for shard in raw["shards"]]
        manifest = Manifest(**raw)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place}: damaged manifest ({error}); run `crlft prepare` again") from None
    version = manifest.settings.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{place}: format version {version}, this release reads {FORMAT_VERSION}; prepare again")
    # One listing: asking for each of thousands of shards would take minutes on object storage.
    there = {place.name for place in folder.children()}
    for shard in manifest.shards:
        if shard.file not in there:
            raise UserError(f"{folder / shard.file}: this shard is missing; run `crlft prepare` again")
    return manifest


def read_tokenizer(folder: Place) -> ChatTokenizer:
    """The extended tokenizer that made the shards."""
    return ChatTokenizer.from_json((folder / TOKENIZER).read_text())
