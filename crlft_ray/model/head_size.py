"""Heads whose values differ in size from their queries, for kernels that know one size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F


def in_one_head_size(
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
) -> torch.Tensor:
    """[..., the values' head size] by a function that takes one head size alone, and knows its scale.

    Multi-head latent attention has smaller values than queries. They are filled up with zeros, which end as zeros in
    the output; zeros in queries and keys would add nothing to a score.
    """
    size = max(q.shape[-1], v.shape[-1])
    filled = [whole if whole.shape[-1] == size else F.pad(whole, (0, size - whole.shape[-1])) for whole in (q, k, v)]
    return attend(*filled)[..., : v.shape[-1]]
