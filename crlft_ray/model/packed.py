"""A causal language model that maps a micro-batch to the cross-entropy of each learned token.

Shapes: T tokens, L learned tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from crlft_ray.model.batch import MicroBatch
from crlft_ray.model.cross_entropy import CrossEntropy
from crlft_ray.model.rms_norm import compute_in_blocks


class LossHead(nn.Linear):
    """The output layer, computing cross-entropies instead of logits.

    It stands in the place of `lm_head` and runs inside that module's forward, so that ZeRO-3 gathers its weight (which
    may be the embedding's) like any other.
    """

    def forward(self, hidden_LD: torch.Tensor, targets_L: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Cross-entropy of each row, float32 [L]."""
        losses_L = CrossEntropy.apply(hidden_LD, self.weight, self.bias, targets_L)  # type: ignore[no-untyped-call]
        return cast(torch.Tensor, losses_L)


class PackedModel(nn.Module):
    """Wraps a transformers model; `model` keeps its own parameter names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        head = model.get_output_embeddings()
        # The object stays (ZeRO-3 and weight tying know it); only what its forward computes changes.
        head.__class__ = LossHead
        compute_in_blocks(model)

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        """Cross-entropy of each learned token, float32 [L], unweighted."""
        hidden_1TD = self.model.base_model(
            input_ids=batch.input_ids_T[None],
            position_ids=batch.positions_T[None],
            cu_seq_lens_q=batch.cu_seq_lens,
            cu_seq_lens_k=batch.cu_seq_lens,
            max_length_q=batch.max_length,
            max_length_k=batch.max_length,
            use_cache=False,
        ).last_hidden_state
        head = self.model.get_output_embeddings()
        return cast(torch.Tensor, head(hidden_1TD[0][batch.sources_L], batch.targets_L))
