"""Where a run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunState:
    """All of a run but its tensors; the same on every rank, but for MLflow's run."""

    step: int
    """Steps done."""
    packs_consumed: int
    """Progress: the next step begins with this pack of the order."""
    world_size: int
    """Ranks that wrote the checkpoint; another number of ranks can go on from it."""
    fingerprint: str
    """Of the shards."""
    tokenizer: str
    """Digest of the tokenizer with its template."""
    model_shape: dict[str, Any]
    """What of the model's architecture must stay the same."""
    parameters: int
    seed: int
    mlflow_run_id: str
    """Known to rank 0; empty where MLflow was away."""
    not_finite: int
    """Steps skipped because of a non-finite gradient."""
    no_weight: int
    """Steps skipped because all their tokens had weight 0."""
    heldout: float | None
    """Held-out loss of the `infer_as` class under its own condition, where it was measured at this very step."""
    config: dict[str, Any]
    sub_group_size: int = 1_000_000_000
    """DeepSpeed's setting, by which a rank lays out its optimizer's state; older checkpoints have its default."""
