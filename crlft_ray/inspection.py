"""`crlft inspect`: what a shard folder, a checkpoint, an export or a run's output holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crlft_ray.checkpoints.folder import STATE, Damaged, read_checkpoint
from crlft_ray.config import read_config
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import MANIFEST, Manifest, read_manifest, read_tokenizer
from crlft_ray.shards.shard import pack_of
from crlft_ray.shards.stream import PackReader
from crlft_ray.storage import Place


def inspect(path: str, *, pack: int = 0, conversation: int = 0, console: Console | None = None) -> dict[str, Any]:
    """Describes `path`; for shards also shows one conversation with what is learned marked.

    Args:
        path: a shard folder, a checkpoint, an export, or a run's output.
        pack: which pack the shown conversation is in.
        conversation: which conversation of the pack.
        console: where to print; nothing is printed without one.

    Raises:
        UserError: nothing known lies there, or there is no such pack or conversation.
    """
    place = Place.of(path)
    if (place / MANIFEST).exists():
        return _shards(place, pack, conversation, console)
    if (place / STATE).exists():
        return _checkpoint(place, console)
    if (place / "config.json").exists():
        return _export(place, console)
    config = place / "config.yaml"
    # The config names the output as it was when the run was started; it may have been moved or copied since.
    elsewhere = read_config(config).data.shards if config.exists() else None
    shards = Place.of(elsewhere) if elsewhere else place / "shards"
    if (shards / MANIFEST).exists():
        found = _shards(shards, pack, conversation, console)
        result = place / "result.json"
        return {**found, **_facts("run", json.loads(result.read_text()), console)} if result.exists() else found
    raise UserError(f"{path}: no shards, checkpoint, export or run output here")


def _shards(place: Place, pack: int, conversation: int, console: Console | None) -> dict[str, Any]:
    manifest = read_manifest(place)
    if not 0 <= pack < manifest.packs:
        raise UserError(f"{place}: there is no pack {pack}; packs are numbered 0 to {manifest.packs - 1}")
    if console:
        marked = _marked(place, manifest, pack, conversation)
        print_manifest(manifest, console)
        console.print(marked)
    return {"kind": "shards", **asdict(manifest)}


def print_manifest(manifest: Manifest, console: Console) -> None:
    """Counts per class and in all."""
    table = Table(title=f"shards {manifest.fingerprint[:12]}", title_justify="left")
    for heading in ("class", "condition", "conversations", "tokens", "learned tokens", "held out"):
        table.add_column(heading, justify="left" if heading in ("class", "condition") else "right")
    for c in manifest.classes:
        numbers = (c.conversations, c.tokens, c.learned_tokens, c.held_out)
        table.add_row(c.name, c.condition or "–", *(f"{number:,}" for number in numbers))
    console.print(table)
    cleaned = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in manifest.counts["cleaned"].items())
    console.print(
        f"{manifest.packs:,} packs of {manifest.pack_tokens:,} tokens, {manifest.fill:.2%} filled; of "
        f"{manifest.counts['rows']:,} rows {manifest.counts['rejected']:,} rejected, "
        f"{manifest.counts['duplicates']:,} duplicates, {manifest.counts['truncated']:,} truncated; "
        f"cleaned: {cleaned or 'none'}",
        highlight=False,
    )


def _marked(place: Place, manifest: Manifest, pack: int, conversation: int) -> Text:
    tokenizer = read_tokenizer(place)
    batch = PackReader(place, manifest)(pack)
    if not 0 <= conversation < len(batch):
        raise UserError(f"{place}: pack {pack} holds conversations 0 to {len(batch) - 1}, not {conversation}")
    one = pack_of(batch.slice(conversation, 1))
    ids = one.input_ids_T.tolist()
    name = manifest.classes[int(one.classes_C[0])].name
    text = Text(f"\npack {pack}, conversation {conversation}, class {name}; what is learned is ")
    text.append("marked", "black on green").append(":\n\n")
    position = 0
    for start, end in zip(one.starts_S.tolist(), one.ends_S.tolist(), strict=True):
        text.append(tokenizer.backend.decode(ids[position:start], skip_special_tokens=False))
        text.append(tokenizer.backend.decode(ids[start:end], skip_special_tokens=False), "black on green")
        position = end
    return text.append(tokenizer.backend.decode(ids[position:], skip_special_tokens=False))


def _checkpoint(place: Place, console: Console | None) -> dict[str, Any]:
    try:
        checkpoint = read_checkpoint(place)
    except Damaged as damage:
        raise UserError(str(damage)) from None
    files = {"files": len(checkpoint.files), "bytes": checkpoint.bytes}
    return _facts("checkpoint", {**asdict(checkpoint.state), **files}, console)


def _export(place: Place, console: Console | None) -> dict[str, Any]:
    config = json.loads((place / "config.json").read_text())
    size = sum(child.info().size or 0 for child in place.children() if child.name.endswith(".safetensors"))
    facts = {
        "model_type": config.get("model_type"),
        "dtype": config.get("dtype") or config.get("torch_dtype"),
        "layers": config.get("num_hidden_layers"),
        "hidden_size": config.get("hidden_size"),
        "vocab_size": config.get("vocab_size"),
        "weights_bytes": size,
        "files": [child.name for child in place.children()],
    }
    return _facts("export", facts, console)


def _facts(kind: str, facts: dict[str, Any], console: Console | None) -> dict[str, Any]:
    if console:
        table = Table(title=kind, title_justify="left", show_header=False)
        for name, value in facts.items():
            shown = f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else json.dumps(value)
            table.add_row(name, shown)
        console.print(table)
    return {"kind": kind, **facts}
