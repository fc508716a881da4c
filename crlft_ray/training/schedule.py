"""Learning rate and optimizer groups."""

from __future__ import annotations

import math
from typing import Any

from crlft_ray.config import Config
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.order import Order


def order_of(config: Config, manifest: Manifest) -> Order:
    """The order in which a run visits its packs."""
    packs_per_step = config.train.global_batch_tokens // config.data.pack_tokens
    return Order(manifest.packs, packs_per_step, manifest.fingerprint, config.train.seed)


def planned_steps(config: Config, order: Order) -> int:
    """Optimizer steps of the whole run."""
    steps = config.train.epochs * order.steps_per_epoch
    return steps if config.train.max_steps is None else min(steps, config.train.max_steps)


def peak_lr(config: Config, manifest: Manifest) -> float:
    """The configured learning rate; `auto` is base_lr · sqrt(learned tokens a step / 4e6) (OpenChat's rule)."""
    if config.train.lr != "auto":
        return config.train.lr
    packs_per_step = config.train.global_batch_tokens // config.data.pack_tokens
    learned_per_step = manifest.learned_tokens / manifest.packs * min(packs_per_step, manifest.packs)
    return config.train.base_lr * math.sqrt(learned_per_step / 4e6)


def weight_shares(config: Config, manifest: Manifest) -> dict[str, float]:
    """Share of Σw that each class has over an epoch: what the gradient really listens to."""
    weighted = {
        counts.name: weight * counts.learned_tokens
        for counts, weight in zip(manifest.classes, config.class_weights(), strict=True)
    }
    total = sum(weighted.values())
    return {name: weight / total if total else 0.0 for name, weight in weighted.items()}


def lr_at(step: int, *, steps: int, peak: float, warmup: float, final: float) -> float:
    """Learning rate of step `step` of `steps`: a linear rise over `warmup`·steps, then a cosine to `final`·peak."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: vectors (norms, biases) have none."""
    decayed: list[Any] = []
    plain: list[Any] = []
    for parameter in model.parameters():
        # A partitioned parameter's own shape is flat and empty; DeepSpeed keeps the real one.
        dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
        (decayed if dimensions > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
