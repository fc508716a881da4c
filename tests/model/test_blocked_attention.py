"""Attention in blocks equals torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from crlft_ray.model.attention import packed_attention
from crlft_ray.model.blocked_attention import BlockedAttention, groups

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=12)


def _pack(lengths: list[int], heads: int, keys: int) -> list[torch.Tensor]:
    """Queries, keys and values."""
    torch.manual_seed(0)
    shapes = ((heads, 8), (keys, 8), (keys, 6))
    return [torch.randn(sum(lengths), *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def _reference(whole: list[torch.Tensor], lengths: list[int]) -> torch.Tensor:
    parts = [torch.split(each.transpose(0, 1), lengths, dim=1) for each in whole]
    alone = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        for q, k, v in zip(*parts, strict=True)
    ]  # fmt: skip
    return torch.cat(alone, dim=1).transpose(0, 1)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, keys=st.sampled_from([1, 2, 4]))
def test_it_equals_the_attention_of_each_sequence_alone(lengths: list[int], keys: int) -> None:
    whole = _pack(lengths, 4, keys)
    ours = BlockedAttention.apply(*whole, tuple(lengths), 8**-0.5)
    theirs = _reference(whole, lengths)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, whole, wanted), torch.autograd.grad(theirs, whole, wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@given(lengths=LENGTHS)
def test_every_token_is_in_one_group_and_little_is_padding(lengths: list[int]) -> None:
    made = groups(tuple(lengths))
    real = torch.cat([group.tokens_SL[group.real_SL] for group in made])
    assert sorted(real.tolist()) == list(range(sum(lengths)))
    for group in made:
        each = group.real_SL.sum(1)
        assert each.max() <= 1.3 * each.min() + 8


@pytest.mark.parametrize("longest", [40, 1025])
def test_bf16_is_as_near_as_bf16_can_be(longest: int) -> None:
    lengths = [longest, 30, 45]
    whole = [each.detach().bfloat16().requires_grad_() for each in _pack(lengths, 4, 2)]
    q_1NTH, k_1KTH, v_1KTH = (each.transpose(0, 1)[None] for each in whole)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    ours, _ = packed_attention(
        torch.nn.Identity(), q_1NTH, k_1KTH, v_1KTH, None, cu_seq_lens_q=starts, max_length_q=longest
    )
    exact = [each.detach().double().requires_grad_() for each in whole]
    theirs = _reference(exact, lengths)
    torch.testing.assert_close(ours[0].double(), theirs, rtol=0.02, atol=0.02)
    wanted = torch.randn_like(theirs)
    got, right = torch.autograd.grad(ours[0], whole, wanted.bfloat16()), torch.autograd.grad(theirs, exact, wanted)
    for one, other in zip(got, right, strict=True):
        assert float((one.double() - other).norm() / other.norm()) < 0.02
