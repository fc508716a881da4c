"""Ranks that wait for each other longer than a collective would: while one uploads, converts or fetches."""

from __future__ import annotations

import time
from typing import Any

import torch.distributed as dist

_POLL_S = 0.2


def meet(name: str) -> None:
    """Returns when every rank has come here; if one fails meanwhile, Ray Train notices and ends the others.

    Args:
        name: of this place; no other meeting of this process group has it.
    """
    store: Any = dist.distributed_c10d._get_default_store()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    prefix = f"crlft/meet/{name}"
    store.set(f"{prefix}/{rank}", "here")
    # Rank 0 asks for all, the others for its word alone: with a thousand ranks the store has enough to do.
    awaited = [f"{prefix}/{other}" for other in range(world_size)] if rank == 0 else [f"{prefix}/all"]
    # `wait` would give up after the store's own time-out.
    while not store.check(awaited):
        time.sleep(_POLL_S)
    if rank == 0:
        store.set(f"{prefix}/all", "here")
