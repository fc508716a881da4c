"""What checkpoints cost, and what a death costs.

    python tests/benchmarks/checkpoints.py [--model smollm2-135m] [--kills 3]

1. Two ZeRO-3 ranks: how long training is blocked per GB of state, against a plain copy of as many bytes into memory
   that is there already (bar: at most 3 times), and a checkpoint's size against 14 bytes a parameter (bar: 1.1 times).
2. Resuming from it with as many ranks, and with one: bytes read and seconds per billion parameters.
3. `crlft train` of a tiny model, a worker killed at a random moment: steps lost (bar: one checkpoint interval) and
   seconds from the kill to the next new step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config, load_config, validate  # noqa: E402
from tests.training.ranks import run_ranks  # noqa: E402

BLOCKED_BAR, SIZE_BAR = 3.0, 1.1
BYTES_PER_PARAMETER = 14
EVERY = 20


class _NoWatch:
    def at(self, position: str) -> None:
        """Nobody waits for anybody here."""


def _config(model: str) -> Config:
    from crlft_ray.device import with_precision

    return with_precision(load_config(ROOT / "jobs/configs/quickstart.yaml", [f"model={model}"]))


def _engine(model: str, universal: bool = False) -> Any:
    from crlft_ray.device import prepare_process
    from crlft_ray.shards.prepare import chat_tokenizer, model_path
    from crlft_ray.training.engine import build_engine

    config = _config(model)
    prepare_process(config)
    return build_engine(config, model_path(config), chat_tokenizer(config), universal=universal)


def _one_step(engine: Any) -> None:
    """A step on a short pack, so that the moments exist."""
    import numpy as np

    from crlft_ray.shards.shard import Pack
    from crlft_ray.training.step import Stepper

    pack = Pack(
        input_ids_T=np.arange(64, dtype=np.int32), lengths_C=np.array([64], np.int32),
        classes_C=np.zeros(1, np.int8), starts_S=np.array([8], np.int32), ends_S=np.array([64], np.int32),
        weights_S=np.ones(1, np.float32), span_conversations_S=np.zeros(1, np.int32),
    )  # fmt: skip
    Stepper(engine, [1.0], per_sequence=False, watch=_NoWatch()).step([pack], 1, 1e-5)  # type: ignore[arg-type]


def _state(step: int, engine: Any, world_size: int) -> Any:
    from crlft_ray.checkpoints.state import RunState

    parameters, sub_group_size = _parameters(engine), engine.optimizer.sub_group_size
    return RunState(step, 1, world_size, "", "", {}, parameters, 0, "", 0, 0, None, {}, sub_group_size)


def _parameters(engine: Any) -> int:
    return sum(p.ds_numel for p in engine.module.parameters())


def measure_saving(rank: int, world_size: int, model: str, folder: str) -> None:
    """Blocked seconds, a plain copy's seconds, GB of this rank, bytes of the whole: as JSON."""
    import torch
    import torch.distributed as dist
    from torch.utils import _pytree as pytree

    from crlft_ray.checkpoints.writer import Writer
    from crlft_ray.storage import Place

    engine = _engine(model)
    _one_step(engine)
    written: list[Any] = []
    writer = Writer(Place.of(folder) / "checkpoints", 1, 1, 600, written.append, lambda seconds: None)
    blocked = [writer.save(engine, _state(step, engine, world_size), wait=True) for step in range(1, 5)]
    tensors = [t for t in pytree.tree_leaves(writer._snapshots._contents) if isinstance(t, torch.Tensor)]
    copies = [torch.empty_like(tensor) for tensor in tensors]
    seconds = []
    for _ in range(4):
        dist.barrier()
        began = time.perf_counter()
        for copy, tensor in zip(copies, tensors, strict=True):
            copy.copy_(tensor)
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        size = sum(tensor.nbytes for tensor in tensors) / 1e9
        found = {
            "blocked": blocked,
            "copy": seconds,
            "gb": size,
            "bytes": written[-1].bytes,
            "parameters": _parameters(engine),
        }
        (Path(folder) / "saving.json").write_text(json.dumps(found))


def measure_resuming(rank: int, world_size: int, model: str, folder: str) -> None:
    """Bytes read by all ranks and seconds of the slowest, with this number of ranks."""
    import torch
    import torch.distributed as dist

    from crlft_ray.checkpoints.resume import find_resumption, load
    from crlft_ray.storage import Place
    from crlft_ray.training.engine import deepspeed_config

    sub_group_size = deepspeed_config(_config(model))["zero_optimization"]["sub_group_size"]
    found = find_resumption(Place.of(folder) / "checkpoints", sub_group_size)
    assert found is not None
    engine = _engine(model, found.universal)
    load(engine, found)
    found.close()
    sums = torch.tensor([float(found.bytes_read), found.seconds], dtype=torch.float64)
    dist.all_reduce(sums[:1])
    dist.all_reduce(sums[1:], op=dist.ReduceOp.MAX)
    if rank == 0:
        facts = {"gb": float(sums[0]) / 1e9, "seconds": float(sums[1])}
        (Path(folder) / f"resuming-{world_size}.json").write_text(json.dumps(facts))


def measure_kills(kills: int, folder: Path) -> list[tuple[int, float]]:
    """Per kill: steps lost, and seconds to the next new step."""
    from crlft_ray.shards.prepare import prepare
    from tests.faults import runs
    from tests.runs import run_config, write_config, write_learnable
    from tests.synthetic import write_tiny_model

    output = folder / "run"
    model, source = write_tiny_model(folder / "model"), write_learnable(folder / "conversations.jsonl")
    train = {"checkpoint_every": EVERY, "epochs": 100_000, "max_failures": kills}
    raw = run_config(model, output, source, train=train)
    prepare(validate(raw, "benchmark"))
    import ray

    ray.shutdown()
    found = []
    with runs.started(write_config(folder / "config.yaml", raw)) as process:
        for _ in range(kills):
            target = runs.steps_seen(output) + random.randint(2 * EVERY, 4 * EVERY)
            runs.wait_for(lambda target=target: runs.steps_seen(output) >= target, 300)  # type: ignore[misc]
            os.kill(_worker(process.pid), signal.SIGKILL)
            began, before = time.time(), runs.steps_seen(output)
            runs.wait_for(lambda before=before: runs.steps_seen(output) > before + 1, 300)  # type: ignore[misc]
            seconds = time.time() - began
            resumed = max(
                json.loads(line)["step"]
                for line in (output / "tracking" / "metrics.jsonl").read_text().splitlines()
                if "resume/seconds" in line
            )
            found.append((before - resumed, seconds))
    return found


def _worker(driver: int) -> int:
    """A worker of this run: a process below Ray's, which is in the driver's session."""
    session = os.getsid(driver)
    workers = [
        process.pid
        for process in psutil.process_iter(["name", "cmdline"])
        if any("RayTrainWorker" in part for part in process.info["cmdline"] or [])
        and any(parent.pid == driver or os.getsid(parent.pid) == session for parent in process.parents())
    ]
    return random.choice(workers)


def main() -> None:
    """Measures all and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--kills", type=int, default=3)
    arguments = parser.parse_args()
    from crlft_ray.assets import fetch

    fetch([arguments.model])
    table = Table(title="checkpoints", title_justify="left")
    for heading, justify in (("what", "left"), ("measured", "right"), ("bar", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as scratch:
        _report_costs(table, arguments.model, Path(scratch))
        _report_kills(table, measure_kills(arguments.kills, Path(scratch)))
    Console().print(table)


def _report_costs(table: Table, model: str, scratch: Path) -> None:
    run_ranks(2, scratch, measure_saving, model, str(scratch), timeout=600)
    saving = json.loads((scratch / "saving.json").read_text())
    # The first of each finds no buffers yet.
    blocked, copy = (statistics.median(saving[name][1:]) / saving["gb"] for name in ("blocked", "copy"))
    table.add_row("blocked, s per GB of a rank's state (the first time)", f"{saving['blocked'][0] / saving['gb']:.3f}")
    table.add_row("blocked, s per GB of a rank's state (later)", f"{blocked:.3f}")
    table.add_row("plain copy, s per GB", f"{copy:.3f}")
    table.add_row("ratio", f"{blocked / copy:.2f}", f"≤ {BLOCKED_BAR}", _met(blocked / copy <= BLOCKED_BAR))
    size = saving["bytes"] / (BYTES_PER_PARAMETER * saving["parameters"])
    table.add_row("size / 14 bytes a parameter", f"{size:.3f}", f"≤ {SIZE_BAR}", _met(size <= SIZE_BAR))
    for ranks in (2, 1):
        run_ranks(ranks, scratch, measure_resuming, model, str(scratch), timeout=600)
        found = json.loads((scratch / f"resuming-{ranks}.json").read_text())
        billions = saving["parameters"] / 1e9
        table.add_row(f"resume 2 → {ranks} ranks, GB read by all", f"{found['gb']:.2f}")
        table.add_row(f"resume 2 → {ranks} ranks, s per billion parameters", f"{found['seconds'] / billions:.1f}")


def _report_kills(table: Table, kills: list[tuple[int, float]]) -> None:
    lost, seconds = [steps for steps, _ in kills], [each for _, each in kills]
    table.add_row("steps lost to a kill, most", str(max(lost)), f"≤ {EVERY}", _met(max(lost) <= EVERY))
    shown = " / ".join(f"{each:.0f}" for each in sorted(seconds))
    table.add_row("s from a kill to the next new step, each", shown)


def _met(met: bool) -> str:
    return "met" if met else "NOT met"


if __name__ == "__main__":
    main()
