"""Values that are smaller or larger than queries, in kernels that know one head size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from crlft_ray.model.head_size import in_one_head_size


@pytest.mark.parametrize("sizes", [(24, 16), (16, 24), (16, 16)])
def test_head_sizes_that_a_kernel_does_not_take(sizes: tuple[int, int]) -> None:
    """As in multi-head latent attention, where a query is larger than a value: forward and backward."""
    torch.manual_seed(0)
    of_queries, of_values = sizes
    shapes = ((4, of_queries), (2, of_queries), (2, of_values))
    whole = [torch.randn(9, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    taken: list[set[int]] = []

    def kernel(*parts_TXH: torch.Tensor) -> torch.Tensor:
        taken.append({part.shape[-1] for part in parts_TXH})
        q, k, v = (part.transpose(0, 1)[None] for part in parts_TXH)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=of_queries**-0.5)
        return out[0].transpose(0, 1)

    ours, theirs = in_one_head_size(kernel, *whole), kernel(*whole)
    assert taken[0] == {max(sizes)}
    assert ours.shape == (9, 4, of_values)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, whole, wanted), torch.autograd.grad(theirs, whole, wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_one_head_size_is_copied_nowhere() -> None:
    whole = [torch.randn(3, 2, 8) for _ in range(3)]
    given: list[torch.Tensor] = []

    def kernel(*parts_TXH: torch.Tensor) -> torch.Tensor:
        given.extend(parts_TXH)
        return parts_TXH[2]

    in_one_head_size(kernel, *whole)
    assert all(one is other for one, other in zip(given, whole, strict=True))
