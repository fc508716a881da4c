"""Causal attention on CPUs in bf16, where torch's own kernel is fast forward, and slow backward.

Sequences of about one length are done together: forward by that kernel, backward in blocks of queries, of which block b
sees the keys up to its own end.

    keys       0 1 2 3 4 5
    block 0    x . . . . .        queries 0, 1, 2 of every sequence and head in one product
               x x . . . .
               x x x . . .
    block 1    x x x x . .        queries 3, 4, 5; only its last columns need a mask
               x x x x x .
               x x x x x x

Shapes: T tokens of the pack, N query heads, K key heads, H head size; S sequences of a group, L tokens of the longest;
R = S·K rows of a product, each with the queries of the G = N / K heads that share its keys; X either of N and K.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch.nn import functional as F

from crlft_ray.model.head_size import in_one_head_size

_BLOCK = 128


@dataclass(frozen=True)
class Group:
    """Sequences of about one length."""

    tokens_SL: torch.Tensor
    """int64: where in the pack each token is; beyond a sequence's end its first token again."""
    real_SL: torch.Tensor
    """bool: whether it is a token of the sequence."""


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


@dataclass(frozen=True)
class Rows:
    """Which of the T·X vectors of a pack stand where in a group's [R, X / K, L], and the way back.

    By these a group's vectors are copied once, in whole rows of H; by token and head it took two copies and masks.
    """

    taken: tuple[torch.Tensor, ...]
    """Of each group, int64 [R · X / K · L]."""
    padding: tuple[torch.Tensor, ...]
    """Of each group, int64: places that are beyond a sequence's end."""
    back: torch.Tensor
    """int64 [T·X]: the place of each vector among those of all groups."""


@lru_cache(maxsize=4)
def rows(lengths: tuple[int, ...], heads: int, keys: int) -> Rows:
    """For X = `heads`; every layer of a micro-batch asks for the same."""
    head_KGL = torch.arange(heads).view(keys, heads // keys, 1)
    back, end = torch.empty(sum(lengths) * heads, dtype=torch.int64), 0
    taken, padding = [], []
    for group in groups(lengths):
        rows_SKGL = group.tokens_SL[:, None, None] * heads + head_KGL
        real_SKGL = group.real_SL[:, None, None].expand_as(rows_SKGL)
        taken.append(rows_SKGL.flatten())
        padding.append(torch.nonzero(~real_SKGL.flatten())[:, 0])
        places = torch.arange(end, end + rows_SKGL.numel()).view_as(rows_SKGL)
        back[rows_SKGL[real_SKGL]] = places[real_SKGL]
        end += rows_SKGL.numel()
    return Rows(tuple(taken), tuple(padding), back)


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
        by_query, by_key = rows(lengths, q_TNH.shape[1], k_TKH.shape[1]), rows(lengths, k_TKH.shape[1], k_TKH.shape[1])
        attend = partial(F.scaled_dot_product_attention, is_causal=True, scale=scale, enable_gqa=True)
        parts = []
        for number, group in enumerate(groups(lengths)):
            sizes = (len(group.tokens_SL) * k_TKH.shape[1], -1, group.tokens_SL.shape[1])
            q_RGLH = _take(q_TNH, by_query.taken[number], sizes)
            k_R1LH, v_R1LH = (_take(whole, by_key.taken[number], sizes) for whole in (k_TKH, v_TKH))
            # For two head sizes it has no kernel, and would hold all scores at once.
            out_RGLH = in_one_head_size(attend, q_RGLH, k_R1LH, v_R1LH)
            parts.append(out_RGLH.reshape(-1, v_TKH.shape[2]))
        ctx.lengths, ctx.scale = lengths, scale
        # Probabilities are computed again: kept, they would be the most that a layer keeps.
        ctx.save_for_backward(q_TNH, k_TKH, v_TKH)
        return _put(parts, by_query.back, q_TNH)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of queries, keys and values."""
        q_TNH, k_TKH, v_TKH = ctx.saved_tensors
        keys, lengths = k_TKH.shape[1], ctx.lengths
        by_query, by_key = rows(lengths, q_TNH.shape[1], keys), rows(lengths, keys, keys)
        scaled_TNH = q_TNH * ctx.scale
        parts: tuple[list[torch.Tensor], ...] = ([], [], [])
        for number, group in enumerate(groups(lengths)):
            sizes = (len(group.tokens_SL) * keys, -1, group.tokens_SL.shape[1])
            q_RGLH, g_RGLH = (_take(whole, by_query.taken[number], sizes) for whole in (scaled_TNH, grads[0]))
            k_RLH, v_RLH = (_take(whole, by_key.taken[number], sizes)[:, 0] for whole in (k_TKH, v_TKH))
            # The padding's output is nobody's.
            g_RGLH.view(-1, g_RGLH.shape[3]).index_fill_(0, by_query.padding[number], 0)
            dq_RGLH, dk_RLH, dv_RLH = torch.empty_like(q_RGLH), torch.zeros_like(k_RLH), torch.zeros_like(v_RLH)
            for begin, end in _blocks(q_RGLH.shape[2]):
                p_RQE = _probabilities(q_RGLH[:, :, begin:end], k_RLH[:, :end], begin)
                g_RQH = g_RGLH[:, :, begin:end].flatten(1, 2)
                dp_RQE = torch.bmm(g_RQH, v_RLH[:, :end].transpose(1, 2))
                ds_RQE = torch._softmax_backward_data(dp_RQE, p_RQE, -1, p_RQE.dtype)
                dq_RQH = torch.bmm(ds_RQE, k_RLH[:, :end])
                dq_RGLH[:, :, begin:end] = dq_RQH.view(len(k_RLH), -1, end - begin, k_RLH.shape[2])
                dk_RLH[:, :end] += torch.bmm(ds_RQE.transpose(1, 2), q_RGLH[:, :, begin:end].flatten(1, 2))
                dv_RLH[:, :end] += torch.bmm(p_RQE.transpose(1, 2), g_RQH)
            for of_all, of_group in zip(parts, (dq_RGLH, dk_RLH, dv_RLH), strict=True):
                of_all.append(of_group.view(-1, of_group.shape[-1]))
        backs = (by_query.back, by_key.back, by_key.back)
        dq_TNH, dk_TKH, dv_TKH = map(_put, parts, backs, (q_TNH, k_TKH, v_TKH))
        return dq_TNH.mul_(ctx.scale), dk_TKH, dv_TKH, None, None


def _take(whole_TXH: torch.Tensor, taken: torch.Tensor, sizes: tuple[int, int, int]) -> torch.Tensor:
    """[R, X / K, L, H] of one group; `sizes` are the first three."""
    return whole_TXH.reshape(-1, whole_TXH.shape[2]).index_select(0, taken).view(*sizes, whole_TXH.shape[2])


def _put(parts: list[torch.Tensor], back: torch.Tensor, like_TXH: torch.Tensor) -> torch.Tensor:
    """The way back from the rows of all groups, [T, X, H]."""
    whole = torch.cat(parts) if len(parts) > 1 else parts[0]
    return whole.index_select(0, back).view(*like_TXH.shape[:2], whole.shape[1])


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
