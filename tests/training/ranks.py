"""Runs a function on several real ranks: processes with gloo, as Ray Train would start them."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch


def run_ranks(
    world_size: int, folder: Path, function: Callable[..., None], *arguments: Any, timeout: float = 120
) -> None:
    """Calls `function(rank, world_size, *arguments)` in `world_size` processes and waits for all of them."""
    store = folder / f"store-{uuid.uuid4().hex}"
    torch.multiprocessing.spawn(_rank, (world_size, str(store), timeout, function, arguments), nprocs=world_size)


def _rank(
    rank: int, world_size: int, store: str, timeout: float, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        DS_ACCELERATOR="cpu", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT="29500",
    )  # fmt: skip
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=timeout)
    )
    function(rank, world_size, *arguments)
    torch.distributed.destroy_process_group()
    # As the workers of Ray end. About once in fifteen times Python's own end aborts the process ("terminate called
    # without an active exception", no Python frame), after all that is tested has been done.
    sys.stdout.flush()
    os._exit(0)
