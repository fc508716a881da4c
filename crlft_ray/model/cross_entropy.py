"""Cross-entropies of an output layer, whose logits exist in part at a time and are computed again backward.

A chunk is what one matrix product makes: forward of some tokens, backward of some words. Within it the logits are
turned into losses and gradients in smaller blocks, which on CPUs stay in the cache: as whole fp32 chunks they cost as
much as a quarter of a small model's step.

Shapes: L learned tokens, D hidden size, V vocabulary; C tokens of a chunk, W words of one, B tokens of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

_CHUNK_TOKENS = 512
"""A chunk has as many logits as so many tokens have."""
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
        """Of hidden states, weight and bias.

        By words instead of tokens: the gradient of a word is then one product over all tokens, summed in fp32 inside
        it. As a sum over chunks of tokens, rounded to bf16 after each, it gets worse with every chunk.
        """
        hidden_LD, weight_VD, bias_V, targets_L, norms_L = ctx.saved_tensors
        d_hidden_LD = torch.zeros_like(hidden_LD, dtype=torch.promote_types(hidden_LD.dtype, torch.float32))
        d_weight_VD = torch.empty_like(weight_VD)
        d_bias_V = None if bias_V is None else torch.empty_like(bias_V)
        vocabulary = len(weight_VD)
        for words in _slices(vocabulary, max(1, _CHUNK_TOKENS * vocabulary // max(_CHUNK_TOKENS, len(hidden_LD)))):
            logits_LW = F.linear(hidden_LD, weight_VD[words], None if bias_V is None else bias_V[words])
            inside_L = (targets_L >= words.start) & (targets_L < words.stop)
            targets_in_L = (targets_L - words.start).clamp(0, logits_LW.shape[1] - 1)
            for block in _blocks(logits_LW):
                d_logits_BW = logits_LW[block].float().sub_(norms_L[block, None]).exp_()
                d_logits_BW.scatter_add_(1, targets_in_L[block, None], -inside_L[block, None].float())
                logits_LW[block] = d_logits_BW.mul_(grads[0][block, None])
            d_hidden_LD += logits_LW @ weight_VD[words]
            torch.mm(logits_LW.t(), hidden_LD, out=d_weight_VD[words])
            if d_bias_V is not None:
                d_bias_V[words] = logits_LW.sum(0)
        return d_hidden_LD.to(hidden_LD.dtype), d_weight_VD, d_bias_V, None


def _slices(length: int, each: int) -> Iterator[slice]:
    for begin in range(0, length, each):
        yield slice(begin, min(begin + each, length))


def _blocks(logits_LW: torch.Tensor) -> Iterator[slice]:
    tokens, words = logits_LW.shape
    return _slices(tokens, max(1, tokens if logits_LW.is_cuda else _BLOCK_BYTES // (4 * words)))
