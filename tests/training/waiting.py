"""Two real ranks, the second of which does not come."""

from __future__ import annotations

import contextlib
import io
import json
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from crlft_ray.training.watch import RankMissing, Watch

TIMEOUT_S = 3.0
CASES = ("a step behind", "behind inside a step", "nobody is behind", "another error", "no memory", "a quick error")


def wait_in_vain(rank: int, world_size: int, results: str) -> None:
    """Notes what the first rank says in each case while the second sleeps instead of joining a collective."""
    groups = [dist.new_group(timeout=timedelta(seconds=TIMEOUT_S)) for _ in CASES]
    said = {}
    for case, group in zip(CASES, groups, strict=True):
        watch = Watch(dist.distributed_c10d._get_default_store(), rank, world_size, TIMEOUT_S)
        watch.begin_step(6)
        dist.barrier()
        said[case] = _first(watch, case, group) if rank == 0 else _second(watch, case)
        dist.barrier()
    if rank == 0:
        Path(results).write_text(json.dumps(said))


def _first(watch: Watch, case: str, group: dist.ProcessGroup) -> list[str]:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), watch:
            if case == "a step behind":
                watch.begin_step(7)
            watch.at("sum of weights")
            if case == "another error":
                time.sleep(TIMEOUT_S)
                raise ValueError("not a collective's")
            if case == "no memory":
                time.sleep(TIMEOUT_S)
                raise torch.OutOfMemoryError("none is left")
            if case == "a quick error":
                raise RuntimeError("at once")
            dist.all_reduce(torch.ones(1), group=group)
    except (RuntimeError, ValueError) as error:
        return [type(error).__name__, str(error), printed.getvalue(), str(isinstance(error, RankMissing))]
    return ["nothing was raised"]


def _second(watch: Watch, case: str) -> list[str]:
    if case == "nobody is behind":
        watch.at("sum of weights")
    if case != "a quick error":
        time.sleep(TIMEOUT_S + 1)
    return []
