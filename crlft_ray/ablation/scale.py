"""How large the ablation is: chosen on the validation problems, before the test problems were looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from crlft_ray.ablation.model import Size


@dataclass(frozen=True)
class Scale:
    """Sizes of the world, the learner and its training."""

    conversations: int = 40_000
    expert_share: float = 0.05
    size: Size = field(default_factory=Size)
    steps: int = 1500
    learned_tokens: int = 900
    """Of a step, one pack, in every row: rows differ in how much of their conversations is answers."""
    context: int = 256
    lr: float = 2e-3
    workers: int = 1
    threads: int = 1
    at_once: int = 2
    """Rows that are trained side by side."""


FULL = Scale()
QUICK = Scale(steps=600)

FROZEN_WORLD = "6b6ce340ce913f07a3e28ad449f49e97597f0091f0418bf88d76c99d6141c2ac"  # pragma: allowlist secret
"""`world_hash()` when the test problems were asked for the first time."""
