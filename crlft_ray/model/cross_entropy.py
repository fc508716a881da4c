"""Cross-entropies of an output layer, whose logits exist for a few tokens at a time and are computed again backward.

A chunk is what one matrix product makes. Within it the logits are turned into losses and gradients in smaller blocks,
which on CPUs stay in the cache: as whole fp32 chunks they cost as much as a quarter of a small model's step.

Shapes: L learned tokens, D hidden size, V vocabulary; C tokens of a chunk, B of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

_CHUNK_TOKENS = 512
_BLOCK_BYTES = 8 << 20


class CrossEntropy(torch.autograd.Function):
    """Maps hidden states and the output layer to the cross-entropy of each token.

    What is saved are the hidden states and the parameters themselves, so that ZeRO-3 may take their contents away in
    between.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_LD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, targets_L: torch.Tensor
    ) -> torch.Tensor:
        """float32 [L]."""
        losses_L = torch.empty(len(hidden_LD), dtype=torch.float32, device=hidden_LD.device)
        norms_L = torch.empty_like(losses_L)
        for chunk in _slices(len(hidden_LD), _CHUNK_TOKENS):
            logits_CV = F.linear(hidden_LD[chunk], weight_VD, bias_V)
            losses_C, norms_C, targets_C = losses_L[chunk], norms_L[chunk], targets_L[chunk]
            for block in _blocks(logits_CV):
                logits_BV = logits_CV[block].float()
                norms_C[block] = torch.logsumexp(logits_BV, 1)
                losses_C[block] = norms_C[block] - logits_BV.gather(1, targets_C[block, None])[:, 0]
        ctx.save_for_backward(hidden_LD, weight_VD, bias_V, targets_L, norms_L)
        return losses_L

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of hidden states, weight and bias."""
        hidden_LD, weight_VD, bias_V, targets_L, norms_L = ctx.saved_tensors
        d_hidden_LD, d_weight_VD = torch.empty_like(hidden_LD), torch.zeros_like(weight_VD)
        d_bias_V = None if bias_V is None else torch.zeros_like(bias_V)
        for chunk in _slices(len(hidden_LD), _CHUNK_TOKENS):
            logits_CV = F.linear(hidden_LD[chunk], weight_VD, bias_V)
            norms_C, targets_C, grads_C = norms_L[chunk], targets_L[chunk], grads[0][chunk]
            for block in _blocks(logits_CV):
                d_logits_BV = logits_CV[block].float().sub_(norms_C[block, None]).exp_()
                d_logits_BV.scatter_add_(1, targets_C[block, None], -torch.ones_like(d_logits_BV[:, :1]))
                logits_CV[block] = d_logits_BV.mul_(grads_C[block, None])
            d_hidden_LD[chunk] = logits_CV @ weight_VD
            d_weight_VD.addmm_(logits_CV.t(), hidden_LD[chunk])
            if d_bias_V is not None:
                d_bias_V += logits_CV.sum(0)
        return d_hidden_LD, d_weight_VD, d_bias_V, None


def _slices(length: int, each: int) -> Iterator[slice]:
    for begin in range(0, length, each):
        yield slice(begin, min(begin + each, length))


def _blocks(logits_CV: torch.Tensor) -> Iterator[slice]:
    tokens, vocabulary = logits_CV.shape
    return _slices(tokens, tokens if logits_CV.is_cuda else max(1, _BLOCK_BYTES // (4 * vocabulary)))
