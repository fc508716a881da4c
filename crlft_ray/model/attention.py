"""Attention within each sequence of a pack; a conversation never sees another one.

    keys     a a a b b
    query a  x . . . .
          a  x x . . .
          a  x x x . .
          b  . . . x .
          b  . . . x x

Shapes: T tokens of the pack, N query heads, K key heads, H head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from crlft_ray.errors import UserError
from crlft_ray.model.blocked_attention import BlockedAttention
from crlft_ray.model.head_size import in_one_head_size

NAME = "crlft_varlen"


def register() -> str:
    """Makes packed attention known to transformers; returns the name for `attn_implementation`."""
    return register_function(NAME, packed_attention)


def register_function(name: str, function: Callable[..., tuple[torch.Tensor, None]]) -> str:
    """Makes an attention function known that is told all by the lengths it gets: no mask is ever built for it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, _no_mask)
    return name


def packed_attention(
    module: torch.nn.Module,
    q_1NTH: torch.Tensor,
    k_1KTH: torch.Tensor,
    v_1KTH: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    s_aux: torch.Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each sequence on its own.

    Args:
        module: the attention layer; not used.
        q_1NTH, k_1KTH, v_1KTH: queries, keys, values of the whole pack.
        attention_mask: always None.
        scaling: factor on the scores; 1/sqrt(H) by default.
        cu_seq_lens_q: [sequences + 1], int32: where each sequence begins, and the end of the last.
        max_length_q: tokens of the longest sequence.
        dropout, s_aux, softcap: dropout, sinks and soft caps of some models; refused.

    Returns:
        [1, T, N, H], and no attention weights.
    """
    assert attention_mask is None
    if s_aux is not None or softcap is not None or dropout:
        has = f"dropout ({dropout})" if dropout else "sinks or soft caps"
        raise UserError(f"model: its attention has {has}, which packed training does not reproduce")
    # Flash attention knows no fp32.
    if q_1NTH.is_cuda and q_1NTH.dtype != torch.float32:
        return _varlen_kernel(q_1NTH, k_1KTH, v_1KTH, cu_seq_lens_q, max_length_q, scaling), None
    lengths: list[int] = cu_seq_lens_q.diff().tolist()
    if q_1NTH.dtype == torch.bfloat16:
        q_TNH, k_TKH, v_TKH = (whole[0].transpose(0, 1) for whole in (q_1NTH, k_1KTH, v_1KTH))
        scale = q_1NTH.shape[-1] ** -0.5 if scaling is None else scaling
        out_TNH = BlockedAttention.apply(q_TNH, k_TKH, v_TKH, tuple(lengths), scale)  # type: ignore[no-untyped-call]
        return out_TNH[None], None
    gqa = q_1NTH.shape[1] != k_1KTH.shape[1]
    parts = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=gqa)
        for q, k, v in zip(*(torch.split(whole, lengths, dim=2) for whole in (q_1NTH, k_1KTH, v_1KTH)), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _varlen_kernel(
    q_1NTH: torch.Tensor,
    k_1KTH: torch.Tensor,
    v_1KTH: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    max_length: int,
    scaling: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    def attend(q_TNH: torch.Tensor, k_TKH: torch.Tensor, v_TKH: torch.Tensor) -> torch.Tensor:
        out_TNH = varlen_attn(
            q_TNH.contiguous(),
            k_TKH.contiguous(),
            v_TKH.contiguous(),
            cu_seq_lens,
            cu_seq_lens,
            max_length,
            max_length,
            scale=q_1NTH.shape[-1] ** -0.5 if scaling is None else scaling,
            window_size=(-1, 0),
            enable_gqa=q_TNH.shape[1] != k_TKH.shape[1],
        )
        assert isinstance(out_TNH, torch.Tensor)
        return out_TNH

    q_TNH, k_TKH, v_TKH = (whole[0].transpose(0, 1) for whole in (q_1NTH, k_1KTH, v_1KTH))
    return in_one_head_size(attend, q_TNH, k_TKH, v_TKH)[None]


def _no_mask(*_: Any, **__: Any) -> None:
    return None
