"""Cross-entropies by chunks and blocks equal the plain ones, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from crlft_ray.model.cross_entropy import CrossEntropy


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("length", "vocabulary"), [(1, 300), (511, 300), (512, 300), (1500, 300), (600, 50_000)])
def test_they_equal_the_plain_ones(length: int, vocabulary: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    hidden_LD = torch.randn(length, 8, dtype=torch.float64, requires_grad=True)
    weight_VD = torch.randn(vocabulary, 8, dtype=torch.float64, requires_grad=True)
    bias_V = torch.randn(vocabulary, dtype=torch.float64, requires_grad=True) if with_bias else None
    targets_L = torch.randint(0, vocabulary, (length,))
    parameters = [each for each in (hidden_LD, weight_VD, bias_V) if each is not None]
    ours_L = CrossEntropy.apply(hidden_LD, weight_VD, bias_V, targets_L)
    plain_L = F.cross_entropy(F.linear(hidden_LD, weight_VD, bias_V), targets_L, reduction="none")
    assert ours_L.dtype == torch.float32
    torch.testing.assert_close(ours_L.double(), plain_L, rtol=1e-5, atol=1e-5)
    # Every token has a weight of its own, as classes have.
    weights_L = torch.rand(length)
    ours = torch.autograd.grad(ours_L, parameters, weights_L)
    plain = torch.autograd.grad(plain_L, parameters, weights_L.double())
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_bf16_gets_no_worse_with_the_number_of_tokens() -> None:
    torch.manual_seed(0)
    hidden_LD, weight_VD = torch.randn(16_384, 64).bfloat16(), torch.randn(500, 64).mul(0.1).bfloat16()
    # Half of the tokens are one word, as some words are much more frequent than others.
    targets_L = torch.randint(0, 500, (16_384,)) * torch.randint(0, 2, (16_384,))
    weights_L = torch.rand(16_384)
    exact = [each.double().requires_grad_() for each in (hidden_LD, weight_VD)]
    theirs_L = F.cross_entropy(F.linear(*exact), targets_L, reduction="none")
    rounded = [each.requires_grad_() for each in (hidden_LD, weight_VD)]
    ours_L = CrossEntropy.apply(*rounded, None, targets_L)
    got, right = (
        torch.autograd.grad(ours_L, rounded, weights_L),
        torch.autograd.grad(theirs_L, exact, weights_L.double()),
    )
    for one, other in zip(got, right, strict=True):
        # A result that is rounded once is off by 0.0016.
        assert float((one.double() - other).norm() / other.norm()) < 0.004


def test_no_more_than_a_chunk_of_logits_exists() -> None:
    hidden_LD = torch.randn(4096, 8, requires_grad=True)
    weight_VD = torch.randn(20_000, 8, requires_grad=True)
    largest = 0

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watched():
        CrossEntropy.apply(hidden_LD, weight_VD, None, torch.zeros(4096, dtype=torch.int64)).sum().backward()
    assert largest <= 512 * 20_000
