"""What a process computes on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from crlft_ray.device import to_device
from crlft_ray.errors import UserError


class _TooLarge(torch.nn.Linear):
    """What torch does where a GPU's memory is full; there is none here."""

    def to(self, *_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has 79.10 GiB\nmore")


def test_a_model_that_one_gpu_does_not_hold_is_named() -> None:
    with pytest.raises(UserError) as caught:
        to_device(_TooLarge(1, 1), "runs/70b/export")
    for part in ("runs/70b/export: does not fit", "one GPU", "448.00 MiB", "evaluate.suites", "register.name"):
        assert part in str(caught.value)
    assert "more" not in str(caught.value).split(")")[0]


def test_a_model_that_fits_is_moved() -> None:
    network = torch.nn.Linear(1, 1)
    assert network.weight.device.type == to_device(network, "x").type
