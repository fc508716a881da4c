"""One optimizer step: the same loss and gradient however its packs are split over ranks and micro-batches.

    L = Σ_t w_t · CE_t / Σ_t w_t       over all learned tokens of the global batch (C-RLFT; OpenChat paper, eq. 7)

Σ w over all ranks is known before the first backward pass, so every micro-batch is scaled by it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from crlft_ray.model.batch import MicroBatch, empty_pack, micro_batch
from crlft_ray.shards.shard import Pack
from crlft_ray.training.watch import Watch


@dataclass(frozen=True)
class StepResult:
    """What a step did, the same on every rank; lists are indexed by class."""

    loss: float
    """The weighted loss L."""
    class_losses: list[float]
    """Unweighted cross-entropy per learned token; NaN where the step had none."""
    weight_shares: list[float]
    """Share of Σw."""
    learned_tokens: int
    tokens: int
    grad_norm: float
    skipped: str
    """Why the weights did not change: `no weight`, `not finite`; empty if they did."""


@dataclass(frozen=True)
class StepSums:
    """Sums over all ranks and micro-batches of a step, by class."""

    counts: torch.Tensor
    """[Σw, learned tokens, all tokens], float64 [3, classes]."""
    losses: torch.Tensor
    """[Σ w·CE, Σ CE], float64 [2, classes]."""

    @property
    def total_weight(self) -> float:
        return float(self.counts[0].sum())

    def result(self, *, grad_norm: float, skipped: str) -> StepResult:
        """The numbers that a step reports."""
        weights, learned, tokens = self.counts.tolist()
        weighted, plain = self.losses.tolist()
        total = sum(weights)
        return StepResult(
            loss=sum(weighted) / total if total else 0.0,
            class_losses=[
                ce / count if count and total else float("nan") for ce, count in zip(plain, learned, strict=True)
            ],
            weight_shares=[weight / total if total else 0.0 for weight in weights],
            learned_tokens=int(sum(learned)),
            tokens=int(tokens[0]),
            grad_norm=grad_norm,
            skipped=skipped,
        )


class Stepper:
    """Runs steps on a rank's engine."""

    def __init__(self, engine: Any, class_weights: Sequence[float], *, per_sequence: bool, watch: Watch) -> None:
        self._engine = engine
        self._device = torch.device(engine.device)
        self._class_weights = torch.tensor(class_weights, dtype=torch.float32, device=self._device)
        self._per_sequence = per_sequence
        self._watch = watch

    def step(self, packs: Sequence[Pack], micro_batches: int, lr: float) -> StepResult:
        """Learns from this rank's packs of one global batch; collective.

        Args:
            packs: this rank's packs, at most `micro_batches`.
            micro_batches: forward and backward passes, the same number on every rank.
            lr: learning rate of this step.
        """
        sums = self.backward(packs, micro_batches)
        if sums.total_weight == 0:
            return sums.result(grad_norm=0.0, skipped="no weight")
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._watch.at("optimizer")
        self._engine.step()
        if self._engine.optimizer.overflow:
            return sums.result(grad_norm=float("nan"), skipped="not finite")
        return sums.result(grad_norm=float(self._engine.get_global_grad_norm()), skipped="")

    def backward(self, packs: Sequence[Pack], micro_batches: int) -> StepSums:
        """All of a step but the change of the weights: the gradient of the global batch's loss; collective.

        Without any weight in the batch there is no gradient.
        """
        padded = [*packs, *[empty_pack()] * (micro_batches - len(packs))]
        batches = [micro_batch(pack, per_sequence=self._per_sequence).to(self._device) for pack in padded]
        counts = self._counts(batches[: len(packs)])
        losses = torch.zeros(2, len(self._class_weights), dtype=torch.float64, device=self._device)
        total_weight = float(counts[0].sum())
        if total_weight == 0:
            return StepSums(counts, losses)
        for number, batch in enumerate(batches):
            self._watch.at(f"micro-batch {number}")
            if number:
                self._engine.step()
            self._engine.set_gradient_accumulation_boundary(number == len(batches) - 1)
            losses += self._micro_batch(batch, total_weight)
        self._watch.at("sum of losses")
        dist.all_reduce(losses)
        return StepSums(counts, losses)

    def _counts(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        """[Σw, learned tokens, all tokens] by class over all ranks, float64 [3, classes]; all tokens under class 0."""
        classes = len(self._class_weights)
        counts = torch.zeros(3, classes, dtype=torch.float64, device=self._device)
        for batch in batches:
            counts[0].index_add_(0, batch.classes_L, batch.weights_L(self._class_weights).double())
            counts[1] += torch.bincount(batch.classes_L, minlength=classes)
            counts[2, 0] += len(batch.input_ids_T)
        self._watch.at("sum of weights")
        dist.all_reduce(counts)
        return counts

    def _micro_batch(self, batch: MicroBatch, total_weight: float) -> torch.Tensor:
        """Forward and backward; [Σ w·CE, Σ CE] by class of this micro-batch, float64 [2, classes]."""
        ce_L = self._engine(batch)
        weights_L = batch.weights_L(self._class_weights)
        # A token of weight zero must not contribute even if its cross-entropy is infinite.
        weighted_L = torch.where(weights_L > 0, weights_L * ce_L, torch.zeros_like(ce_L))
        # DeepSpeed divides by the number of ranks.
        self._engine.backward(weighted_L.sum() * (dist.get_world_size() / total_weight), scale_wrt_gas=False)
        sums = torch.zeros(2, len(self._class_weights), dtype=torch.float64, device=self._device)
        real_L = batch.message_weights_L > 0
        sums[0].index_add_(0, batch.classes_L, weighted_L.detach().double())
        sums[1].index_add_(0, batch.classes_L[real_L], ce_L.detach()[real_L].double())
        return sums
