"""Attention that gives a question's numbers whatever is computed beside it, or was computed before.

Torch's CPU kernel (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp) sums the last block of keys in an order that
depends on how far the sequence is padded; in bf16 that is enough to turn one answer in forty of a model that
guesses. So each row is computed at a width of its own, which is lm-eval's; all else in a forward pass is the same for
a row whatever stands in the others.

Shapes: B rows, T new tokens, S tokens with those that were computed before, N query heads, K key heads, H head size.
Imports torch at its top: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from crlft_ray.model.attention import register_function

NAME = "crlft_rowwise"
BLOCK = 512
"""Keys that the kernel reads at a time; what is masked in a block counts for how its sum is rounded."""


def register() -> str:
    """Makes the function known to transformers; returns the name for `set_attn_implementation`."""
    return register_function(NAME, rowwise_attention)


def rowwise_attention(
    module: torch.nn.Module,
    q_BNTH: torch.Tensor,
    k_BKSH: torch.Tensor,
    v_BKSH: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_widths: Sequence[int],
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row by itself, by the function that transformers uses as a rule.

    Args:
        module: the attention layer.
        q_BNTH, k_BKSH, v_BKSH: queries of the new tokens; keys and values of all. Padding is at the end.
        attention_mask: always None.
        row_widths: [B] tokens to which each row is padded or cut; at least its own.
        options: what transformers passes on to every attention function.

    Returns:
        [B, T, N, H], and no attention weights. Zeros beyond a row's width.
    """
    assert attention_mask is None
    new, before = q_BNTH.shape[2], k_BKSH.shape[2] - q_BNTH.shape[2]
    rows = []
    for row, width in enumerate(row_widths):
        # Queries of what was computed before are zeros: they only put the others where the kernel expects them.
        q, k, v = (
            F.pad(each[row : row + 1], (0, 0, front, 0))[:, :, :width]
            for each, front in ((q_BNTH, before), (k_BKSH, 0), (v_BKSH, 0))
        )
        q, k, v = (F.pad(each, (0, 0, 0, width - each.shape[2])) for each in (q, k, v))
        out_1TNH = sdpa_attention_forward(module, q, k, v, None, **options)[0][:, before : before + new]
        rows.append(F.pad(out_1TNH, (0, 0, 0, 0, 0, new - out_1TNH.shape[1])))
    return torch.cat(rows), None


def padded_widths(contexts: Collection[Sequence[int]], batch_size: int) -> dict[tuple[int, ...], int]:
    """To how many tokens lm-eval pads each context if it is asked all of them: its batches are the longest first."""
    order = sorted({tuple(context) for context in contexts}, key=lambda context: (-len(context), context))
    return {context: len(order[place - place % batch_size]) for place, context in enumerate(order)}


def whole_blocks(width: int) -> int:
    """Of a row of this width, how many tokens lie in whole blocks: their numbers are the same at every width."""
    return width // BLOCK * BLOCK


def next_whole(length: int) -> int:
    """The least width at which all of a row's first `length` tokens lie in whole blocks."""
    return whole_blocks(length + BLOCK - 1)
