"""Causal attention on CPUs in bf16, where torch's own kernel takes several times as long backward.

Sequences of about one length are done together, in blocks of queries: block b sees the keys up to its own end.

    keys       0 1 2 3 4 5
    block 0    x . . . . .        queries 0, 1, 2 of every sequence and head in one product
               x x . . . .
               x x x . . .
    block 1    x x x x . .        queries 3, 4, 5; only its last columns need a mask
               x x x x x .
               x x x x x x

Shapes: T tokens of the pack, N query heads, K key heads, H head size; S sequences of a group, L tokens of the longest;
R = S·K rows of a product, each with the queries of the N / K heads that share its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

_BLOCK = 128


@dataclass(frozen=True)
class Group:
    """Sequences of about one length."""

    tokens_SL: torch.Tensor
    """int64: where in the pack each token is; beyond a sequence's end its first token again."""
    real_SL: torch.Tensor
    """bool: whether it is a token of the sequence."""

    def rows(self, whole_TXH: torch.Tensor, keys: int) -> torch.Tensor:
        """[R, X / K, L, H] of heads X."""
        _, heads, size = whole_TXH.shape
        sequences, longest = self.tokens_SL.shape
        picked = whole_TXH[self.tokens_SL].view(sequences, longest, keys, heads // keys, size)
        return picked.permute(0, 2, 3, 1, 4).reshape(sequences * keys, heads // keys, longest, size)

    def put(self, rows_RGLH: torch.Tensor, into_TXH: torch.Tensor) -> None:
        """The way back."""
        _, shared, longest, size = rows_RGLH.shape
        sequences = len(self.tokens_SL)
        by_token = rows_RGLH.view(sequences, -1, shared, longest, size).permute(0, 3, 1, 2, 4)
        into_TXH[self.tokens_SL[self.real_SL]] = by_token.reshape(sequences, longest, -1, size)[self.real_SL]


@lru_cache(maxsize=16)
def groups(lengths: tuple[int, ...]) -> tuple[Group, ...]:
    """Sequences in groups in which at most about a quarter is padding; every layer of a micro-batch asks for the same.

    Args:
        lengths: of all sequences of the pack, in its order.
    """
    lengths_C = torch.tensor(lengths)
    starts_C = lengths_C.cumsum(0) - lengths_C
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if not found or lengths[number] > 1.3 * lengths[found[-1][0]] + 8:
            found.append([])
        found[-1].append(number)
    made = []
    for numbers in found:
        within_L = torch.arange(int(lengths_C[numbers].max()))
        real_SL = within_L < lengths_C[numbers][:, None]
        made.append(Group(starts_C[numbers][:, None] + within_L * real_SL, real_SL))
    return tuple(made)


class BlockedAttention(torch.autograd.Function):
    """Attention within the sequences of a pack."""

    @staticmethod
    def forward(
        ctx: Any,
        q_TNH: torch.Tensor,
        k_TKH: torch.Tensor,
        v_TKH: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
    ) -> torch.Tensor:
        """[T, N, H], in the dtype of `q_TNH`."""
        keys, scaled_TNH = k_TKH.shape[1], q_TNH * scale
        out_TNH = q_TNH.new_empty(*q_TNH.shape[:2], v_TKH.shape[2])
        for group in groups(lengths):
            q_RGLH = group.rows(scaled_TNH, keys)
            k_RLH, v_RLH = group.rows(k_TKH, keys)[:, 0], group.rows(v_TKH, keys)[:, 0]
            parts = []
            for begin, end in _blocks(q_RGLH.shape[2]):
                p_RQE = _probabilities(q_RGLH[:, :, begin:end], k_RLH[:, :end], begin)
                parts.append(torch.bmm(p_RQE, v_RLH[:, :end]).view(len(k_RLH), -1, end - begin, v_RLH.shape[2]))
            group.put(torch.cat(parts, 2), out_TNH)
        ctx.lengths, ctx.scale = lengths, scale
        # Probabilities are computed again: kept, they would be the most that a layer keeps.
        ctx.save_for_backward(q_TNH, k_TKH, v_TKH)
        return out_TNH

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of queries, keys and values."""
        q_TNH, k_TKH, v_TKH = ctx.saved_tensors
        keys, scaled_TNH = k_TKH.shape[1], q_TNH * ctx.scale
        found = tuple(torch.empty_like(whole) for whole in (q_TNH, k_TKH, v_TKH))
        for group in groups(ctx.lengths):
            q_RGLH, g_RGLH = group.rows(scaled_TNH, keys), group.rows(grads[0], keys)
            k_RLH, v_RLH = group.rows(k_TKH, keys)[:, 0], group.rows(v_TKH, keys)[:, 0]
            # The padding's output is nobody's; what it gathered here belongs to the first token.
            real_RL = group.real_SL.repeat_interleave(keys, 0)
            g_RGLH = g_RGLH * real_RL[:, None, :, None]
            dq_parts, dk_RLH, dv_RLH = [], torch.zeros_like(k_RLH), torch.zeros_like(v_RLH)
            for begin, end in _blocks(q_RGLH.shape[2]):
                p_RQE = _probabilities(q_RGLH[:, :, begin:end], k_RLH[:, :end], begin)
                g_RQH = g_RGLH[:, :, begin:end].flatten(1, 2)
                dp_RQE = torch.bmm(g_RQH, v_RLH[:, :end].transpose(1, 2))
                ds_RQE = torch._softmax_backward_data(dp_RQE, p_RQE, -1, p_RQE.dtype)
                dq_parts.append(torch.bmm(ds_RQE, k_RLH[:, :end]).view(len(k_RLH), -1, end - begin, k_RLH.shape[2]))
                dk_RLH[:, :end] += torch.bmm(ds_RQE.transpose(1, 2), q_RGLH[:, :, begin:end].flatten(1, 2))
                dv_RLH[:, :end] += torch.bmm(p_RQE.transpose(1, 2), g_RQH)
            group.put(torch.cat(dq_parts, 2) * ctx.scale, found[0])
            group.put(dk_RLH[:, None], found[1])
            group.put(dv_RLH[:, None], found[2])
        return (*found, None, None)


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + _BLOCK, length)) for begin in range(0, length, _BLOCK)]


def _probabilities(q_RGQH: torch.Tensor, k_REH: torch.Tensor, begin: int) -> torch.Tensor:
    """[R, G·Q, E]: softmax of the scores of queries `begin`… on all keys up to the last of these queries."""
    queries = q_RGQH.shape[2]
    scores_RQE = torch.bmm(q_RGQH.flatten(1, 2), k_REH.transpose(1, 2))
    scores_RQE.view(len(scores_RQE), -1, queries, k_REH.shape[1])[..., begin:].add_(
        _later(scores_RQE.dtype)[:queries, :queries]
    )
    return torch.softmax(scores_RQE, -1)


@lru_cache(maxsize=2)
def _later(dtype: torch.dtype) -> torch.Tensor:
    """Added to the scores of a block's own keys: each query sees no later one."""
    return torch.full((_BLOCK, _BLOCK), -torch.inf, dtype=dtype).triu(1)
