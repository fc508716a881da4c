"""Measures the held-out loss while a run trains: every class under every condition."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from crlft_ray.conversations import Conversation
from crlft_ray.evaluation.heldout import conversation_losses, encode_content, read_heldout
from crlft_ray.model.batch import MicroBatch
from crlft_ray.templates import Encoded
from crlft_ray.training.watch import Watch
from crlft_ray.training.worker import TrainJob


class HeldoutEvaluation:
    """A rank's part of it; what is measured is read and tokenised once a run."""

    def __init__(self, job: TrainJob, engine: Any) -> None:
        self._job = job
        self._engine = engine

    @cached_property
    def _conversations(self) -> list[Conversation]:
        return read_heldout(self._job.shards, self._job.config.evaluate.heldout)

    @cached_property
    def _encodings(self) -> dict[str, list[Encoded]]:
        """Under each class's condition."""
        config, tokenizer = self._job.config, self._job.tokenizer
        return {
            name: encode_content(tokenizer, self._conversations, spec.condition, config.data.context)
            for name, spec in config.classes.items()
        }

    def measure(self, watch: Watch) -> dict[str, float]:
        """The losses, and standard errors of those under a class's own condition; collective.

        Nothing is held out: no metrics.
        """
        if not self._conversations:
            return {}

        def forward(batch: MicroBatch) -> torch.Tensor:
            watch.at("held-out evaluation")
            losses: torch.Tensor = self._engine(batch)
            return losses

        config = self._job.config
        metrics = {}
        self._engine.eval()
        for name, encoded in self._encodings.items():
            losses = conversation_losses(
                forward, encoded, config.data.pack_tokens, torch.device(self._engine.device),
                rank=dist.get_rank(), world_size=dist.get_world_size(),
            )  # fmt: skip
            for other in config.class_names:
                chosen = losses.of(np.array([c.class_name == other for c in self._conversations]))
                metrics[f"heldout/{other}/as_{name}"] = chosen.mean
                if other == name:
                    metrics[f"heldout_se/{other}"] = chosen.standard_error
        self._engine.train()
        return metrics
