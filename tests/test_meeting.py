"""Ranks that wait for one that takes longer than a collective may."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch.distributed as dist

from crlft_ray.meeting import meet
from tests.training.ranks import run_ranks

_TIMEOUT_S = 2.0


def _come_late(rank: int, world_size: int, folder: str) -> None:
    """The second rank comes after the time-out, once to each of two places."""
    dist.barrier()
    for place in ("one", "another"):
        if rank == 1:
            time.sleep(1.5 * _TIMEOUT_S)
            (Path(folder) / place).touch()
        meet(place)
        assert (Path(folder) / place).exists()
    dist.barrier()


@pytest.mark.slow
def test_nobody_goes_on_before_the_last_has_come(tmp_path: Path) -> None:
    run_ranks(2, tmp_path, _come_late, str(tmp_path), timeout=_TIMEOUT_S)
