"""What a process computes on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from crlft_ray.config import validate
from crlft_ray.device import to_device, worker_environment
from crlft_ray.errors import UserError
from tests.synthetic import raw_config

_GROWN = """
import torch

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
kept = []
for _ in range(60):
    made = [torch.ones(3 << 20) for _ in range(4)]
    del made
    kept.append(torch.ones(1 << 18))
print(resident() - before)
"""
"""Like a pack's forward pass: of each layer a little is kept, and much is made and freed."""


def test_workers_do_not_grow_by_holes_between_what_they_keep() -> None:
    environment = worker_environment(validate(raw_config("model", "out", "data.jsonl"), "test"))
    command = [sys.executable, "-c", _GROWN]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True, timeout=60)
    kept, made = 60 << 20, 4 * (12 << 20)
    assert not done.stderr
    assert kept < int(done.stdout) < 1.3 * (kept + made)


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
