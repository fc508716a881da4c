"""Where a ZeRO-3 step goes, rank by rank: gathering weights, reducing gradients, computing, the optimizer, waiting.

    python tests/benchmarks/zero3.py [--workers 1,2,4] [--steps 2] [--model NAME] [--pack-tokens 2048]
        [--batch-tokens 16384] [--gpus]

SmolLM2-135M learns chitchat conversations by the engine and the step of `crlft train` in Ray Train workers, without
streaming, tracking or checkpoints; one worker has two threads, several have one each. On CPUs one more step runs under
Python's profiler, whose cost is not in the tokens/s. With --gpus, on a machine that has them: tokens/s and memory of
each GPU, the share of the matrix units' rate that is used (MFU), and the share of the GPU's time that its communication
kernels take.
Bar: several workers together ≥ 0.9 of one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config  # noqa: E402
from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import Bar, report  # noqa: E402

_COORDINATOR = "deepspeed/runtime/zero/partitioned_param_coordinator.py"
PARTS = {
    "gathering weights": ((_COORDINATOR, "fetch_sub_module"), (_COORDINATOR, "release_sub_module")),
    "reducing gradients": (("deepspeed/runtime/zero/stage3.py", "__reduce_and_partition_ipg_grads"),),
    "optimizer": (("deepspeed/runtime/engine.py", "step"),),
    "sums over ranks": (("torch/distributed/distributed_c10d.py", "all_reduce"),),
}
"""Functions of DeepSpeed and torch, by whose total time a part is measured."""


TOGETHER_BAR = 0.9


def main() -> None:
    """Prepares, trains, and prints a rank's parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pack-tokens", type=int, default=_learn.PACK_TOKENS)
    parser.add_argument("--batch-tokens", type=int, default=_learn.BATCH_TOKENS)
    parser.add_argument("--gpus", action="store_true")
    arguments = parser.parse_args()
    from crlft_ray.ray_session import connect

    connect()
    rates: dict[int, float] = {}
    for workers in map(int, arguments.workers.split(",")):
        ranks = _measured(workers, arguments)
        for name in ranks[0]:
            print(f"{name}: {', '.join(f'{rank[name]:.4g}' for rank in ranks)}")
        found = {name: [rank[name] for rank in ranks] for name in ranks[0]}
        parts = {name: values for name, values in found.items() if name.endswith(", s")}
        report(f"zero3-{workers}", f"a step of {workers} ranks", "s", parts, more={"ranks": found})
        rates[workers] = sum(found["tokens/s of a worker"])
    bars = [
        Bar(f"{workers} workers / one", rate / rates[1], TOGETHER_BAR)
        for workers, rate in rates.items() if 1 in rates and workers > 1
    ]  # fmt: skip
    together = {f"{workers} worker(s)": [rate] for workers, rate in rates.items()}
    report("zero3", f"{arguments.batch_tokens:,} tokens a step, all workers together", "tokens/s", together, bars)


def _measured(workers: int, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Every rank's figures."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from crlft_ray.device import backend, with_precision, worker_environment
    from crlft_ray.shards.prepare import prepare
    from crlft_ray.training.cluster import worker_resources
    from crlft_ray.training.process_group import GroupConfig

    with tempfile.TemporaryDirectory() as scratch:
        run = _learn.config(
            f"{scratch}/first", arguments.steps + 2, workers=workers, pack_tokens=arguments.pack_tokens,
            batch_tokens=arguments.batch_tokens,
        )  # fmt: skip
        changes: dict[str, Any] = {"model": arguments.model}
        if arguments.gpus:
            changes["train"] = run.train.model_copy(update={"resources_per_worker": {"GPU": 1}})
        run = with_precision(run.model_copy(update=changes))
        prepare(run)
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"run": run},
            torch_config=GroupConfig(backend=backend(run)),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=arguments.gpus, resources_per_worker=worker_resources(run)
            ),
            run_config=RunConfig(worker_runtime_env={"env_vars": worker_environment(run)}, storage_path=scratch),
        )
        ranks: list[dict[str, float]] = trainer.fit().return_value
        return ranks


def _worker(job: dict[str, Any]) -> list[dict[str, float]]:
    """Every rank's figures; the same on all."""
    import numpy as np
    import torch.distributed as dist

    run: Config = job["run"]
    from crlft_ray.device import peak_memory_gb, prepare_process

    prepare_process(run)
    from crlft_ray.shards.manifest import read_manifest, read_tokenizer
    from crlft_ray.shards.prepare import model_path, shards_folder
    from crlft_ray.shards.shard import pack_of
    from crlft_ray.shards.stream import PackReader
    from crlft_ray.training.engine import build_engine
    from crlft_ray.training.schedule import order_of
    from crlft_ray.training.step import Stepper
    from crlft_ray.training.watch import Watch

    folder = shards_folder(run)
    manifest = read_manifest(folder)
    order, reader = order_of(run, manifest), PackReader(folder, manifest)
    engine = build_engine(run, str(model_path(run)), read_tokenizer(folder))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    watch = Watch(dist.distributed_c10d._get_default_store(), rank, ranks, run.train.collective_timeout)
    stepper = Stepper(engine, run.class_weights(), per_sequence=False, watch=watch)

    def step(number: int) -> int:
        count = order.rank_packs(number, rank, ranks)
        first = order.count(0, number, rank, ranks)
        numbers = order.pack_numbers(0, np.arange(first, first + count), rank, ranks)
        packs = [pack_of(reader(int(pack))) for pack in numbers]
        return stepper.step(packs, order.micro_batches(number, ranks), 1e-5).tokens

    step(0)
    assert run.train.max_steps is not None
    last = run.train.max_steps - 1
    began = time.perf_counter()
    tokens = sum(step(number) for number in range(1, last))
    seconds = time.perf_counter() - began
    found = {"tokens/s of a worker": tokens / seconds / ranks, "memory, GB": peak_memory_gb(run)}
    measure = _gpu_parts if run.train.resources_per_worker.get("GPU") else _cpu_parts
    found |= measure(lambda: step(last))
    if "matrix rate, FLOP/s" in found:
        flop = 6.0 * sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
        found["MFU"] = found["tokens/s of a worker"] * flop / found["matrix rate, FLOP/s"]
    everyone: list[dict[str, float]] = [{} for _ in range(ranks)]
    dist.all_gather_object(everyone, found)
    return everyone


def _cpu_parts(step: Callable[[], int]) -> Mapping[str, float]:
    """Seconds of each part of a step, by Python's profiler."""
    import cProfile
    import pstats

    import torch.distributed as dist

    dist.barrier()
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.runcall(step)
    seconds = time.perf_counter() - began
    ended = time.perf_counter()
    dist.barrier()
    waited = time.perf_counter() - ended
    functions = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    found = {"whole, s": seconds, "waiting for the others at its end, s": waited}
    for part, measured in PARTS.items():
        found[f"{part}, s"] = sum(
            total
            for (file, _, function), (*_, total, _) in functions.items()
            if any(file.endswith(place) and function == name for place, name in measured)
        )
    assert all(found[f"{part}, s"] > 0 for part in PARTS), found
    found["forward and backward, s"] = seconds - sum(found[f"{part}, s"] for part in PARTS)
    return found


def _gpu_parts(step: Callable[[], int]) -> Mapping[str, float]:
    """Seconds of all kernels and of those that communicate, and the rate of a large matrix product."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    kernels = [(event.key, event.self_device_time_total / 1e6) for event in profiled.key_averages()]
    x = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    x @ x
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        x @ x
    torch.cuda.synchronize()
    rate = 10 * 2.0 * 8192**3 / (time.perf_counter() - began)
    communicating = sum(seconds for name, seconds in kernels if "nccl" in name.lower())
    busy = sum(seconds for _, seconds in kernels)
    return {
        "kernels, s": busy,
        "communication kernels, s": communicating,
        "share of communication": communicating / busy,
        "matrix rate, FLOP/s": rate,
    }


if __name__ == "__main__":
    main()
