"""The export: weights, tokenizer, chat template, generation config and model card in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crlft_ray.config import Config
from crlft_ray.export.card import model_card
from crlft_ray.export.provenance import provenance_of, write_provenance
from crlft_ray.export.weights import MAX_SHARD_BYTES, write_weights
from crlft_ray.scratch import scratch_folder
from crlft_ray.shards.manifest import Manifest
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer


def export_model(
    model: Any,
    tokenizer: ChatTokenizer,
    config: Config,
    manifest: Manifest,
    target: Place,
    *,
    writes: bool = True,
    steps: int = 0,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes `target` as a whole or not at all (on object storage: not as a model); collective on a partitioned one.

    Whoever loads the folder and applies its chat template speaks to the `infer_as` class without knowing of
    conditions.

    Args:
        model: the transformers model, plain or partitioned.
        tokenizer: with its chat template.
        config: of the run, for the model card.
        manifest: of the shards, for the model card.
        target: the folder; what is there is replaced.
        writes: whether this rank writes.
        steps: optimizer steps done, for the model card.
        max_shard_bytes: largest weight file.
    """
    if not writes:
        write_weights(model, None, max_shard_bytes)
        return
    with _scratch(target) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        write_weights(model, folder, max_shard_bytes)
        _write_config(model, tokenizer, folder)
        tokenizer.save(folder)
        write_provenance(provenance_of(config, manifest, steps), folder)
        card = folder / "README.md"
        card.write_text(model_card(config, manifest, steps), encoding="utf-8")
        for weights in folder.glob("*.safetensors"):
            # safetensors lets nobody but the writer read them.
            weights.chmod(card.stat().st_mode)
        _put(folder, target, scratch / "old")


@contextmanager
def _scratch(target: Place) -> Iterator[Path]:
    """A folder to write in; beside a local target, so that the move at the end is a rename."""
    if not target.is_local:
        with scratch_folder() as folder:
            yield folder
        return
    beside = Path(f"{target.path}.part")
    # What a killed export left behind.
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside)


def _put(folder: Path, target: Place, old: Path) -> None:
    """Brings a finished folder to its place; a local one that was there is moved aside first."""
    if not target.is_local:
        (target / "config.json").remove()
        target.remove()
        _upload(folder, target)
        return
    if target.exists():
        Path(target.path).rename(old)
    folder.rename(target.path)


def _write_config(model: Any, tokenizer: ChatTokenizer, folder: Path) -> None:
    from transformers import GenerationConfig

    ids = {
        f"{name.removesuffix('_token')}_token_id": tokenizer.token_id(text) for name, text in tokenizer.special.items()
    }
    ids.pop("unk_token_id", None)
    model.config.update(ids)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    GenerationConfig(**ids, do_sample=False).save_pretrained(folder)


def _upload(folder: Path, target: Place) -> None:
    """Whoever reads the target takes it for a model when it has a config.json, which comes last."""
    config = folder / "config.json"
    content = config.read_bytes()
    config.unlink()
    target.make_folder()
    target.copy_from_local(folder)
    (target / config.name).write_bytes(content)
