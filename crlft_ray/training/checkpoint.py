"""Checkpoints: every rank's ZeRO-3 shards, and what is needed to go on from them."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crlft_ray.storage import Place

_TAG = "zero3"
STATE = "state.json"
"""Name of a checkpoint's `RunState`."""


@dataclass(frozen=True)
class RunState:
    """Where a run is; lies in every checkpoint as state.json."""

    step: int
    """Steps done."""
    packs_consumed: int
    """Progress: the next step begins with this pack of the order."""
    world_size: int
    fingerprint: str
    seed: int
    mlflow_run_id: str
    not_finite: int
    """Steps skipped because of a non-finite gradient."""
    no_weight: int
    """Steps skipped because all their tokens had weight 0."""
    config: dict[str, Any]


def save(engine: Any, state: RunState, metrics: dict[str, float]) -> None:
    """Writes this rank's part and hands it to Ray Train, which uploads and commits the whole; collective."""
    import ray.train
    import torch.distributed as dist

    folder = Path(tempfile.mkdtemp(prefix="crlft-checkpoint-"))
    try:
        (folder / _TAG).mkdir()
        engine.save_checkpoint(str(folder), tag=_TAG)
        if dist.get_rank() == 0:
            (folder / STATE).write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(str(folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_latest(engine: Any) -> RunState | None:
    """Loads the newest complete checkpoint into a fresh engine; None if there is none; collective."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state = read_state(Path(folder))
        loaded, _ = engine.load_checkpoint(folder, tag=_TAG)
        if loaded is None:
            raise RuntimeError(f"{checkpoint.path}: DeepSpeed could not load this checkpoint")
    return state


def read_state(folder: Path | Place) -> RunState:
    """The state of a checkpoint folder."""
    return RunState(**json.loads((folder / STATE).read_text()))


def newest_state(checkpoints: Place) -> RunState | None:
    """The state of the newest checkpoint that Ray Train keeps in a folder; their names sort by time."""
    if not checkpoints.is_folder():
        return None
    kept = [
        place for place in checkpoints.children() if place.name.startswith("checkpoint_") and (place / STATE).exists()
    ]
    return read_state(kept[-1]) if kept else None
