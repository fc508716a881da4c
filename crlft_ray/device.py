"""The one place that knows what a process computes on: GPUs or CPUs, and in which precision these are fast."""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path
from threading import Thread
from typing import Any

from crlft_ray.config import Config
from crlft_ray.config.train import Precision
from crlft_ray.errors import UserError


def uses_gpu(config: Config) -> bool:
    """Whether workers ask for GPUs."""
    return config.train.resources_per_worker.get("GPU", 0) > 0


def backend(config: Config) -> str:
    """The collective backend of torch."""
    return "nccl" if uses_gpu(config) else "gloo"


def communication(config: Config) -> dict[str, Any]:
    """ZeRO settings that depend on what moves the gradients."""
    if uses_gpu(config):
        return {"overlap_comm": True}
    # Buckets of 16 MB in fp32 come back from the allocator; larger ones are mapped, page by page, at every reduction.
    # gloo's reduce-scatter is an all-reduce of a copy: without it a bucket is reduced where it lies, in half the time.
    return {"overlap_comm": False, "reduce_bucket_size": 4_000_000, "reduce_scatter": False}


def native_precision() -> Precision:
    """What a model is asked in: bf16, but fp32 for a cluster of CPUs that cannot multiply it.

    Ray must be connected. Of CPUs, this machine's speaks for all.
    """
    import ray

    return "bf16" if ray.cluster_resources().get("GPU", 0) or _cpu_multiplies_bf16() else "fp32"


def with_precision(config: Config, earlier: Config | None = None) -> Config:
    """The config with `train.precision: auto` decided, by the run that it goes on with, or by what its workers have."""
    if config.train.precision != "auto":
        return config
    if earlier is not None:
        precision = earlier.train.precision
    else:
        precision = "bf16" if uses_gpu(config) or _cpu_multiplies_bf16() else "fp32"
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def _cpu_multiplies_bf16() -> bool:
    """Where it does not, bf16 is tens of times slower than fp32 (80 times with AVX2 alone)."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def to_device(network: Any, model: str) -> Any:
    """Moves a whole model to this process's GPU, if it has one, and returns the `torch.device` that it is on.

    Raises:
        UserError: the GPU does not hold it.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network.to(device)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{model}: does not fit into the memory of one GPU, on which a model is asked as a whole "
            f"({str(error).splitlines()[0][:200]}); leave out evaluate.suites and register.name and use `crlft train`, "
            "which needs no GPU that holds all of it, and ask the model where a GPU is large enough"
        ) from None
    return device


def worker_environment(config: Config) -> dict[str, str]:
    """What must stand in a training worker's environment before it starts."""
    # torch's own deprecations, which DeepSpeed causes at every collective.
    environment = {"PYTHONWARNINGS": "ignore::FutureWarning"}
    if not uses_gpu(config):
        environment |= _allocator()
    return environment


def _allocator() -> dict[str, str]:
    """Gives a process jemalloc, which Ray brings along, in place of glibc's allocator.

    Gathered parameters, gradients and activations are made anew in every micro-batch. Between what a pack keeps of each
    layer glibc leaves holes into which the next layer's do not fit, so that a worker grows with every layer; torch's
    guide for CPUs names jemalloc for that. Freed memory is kept, else the kernel zeroes it again page by page. A node
    without the file uses its own allocator; on ARM the library may have been built for pages of another size.
    """
    import ray

    library = Path(ray.__file__).with_name("core") / "libjemalloc.so"
    theirs = os.environ.get("LD_PRELOAD", "") not in ("", str(library))
    # Its path ends at a space or colon.
    if theirs or re.search(r"[\s:]", str(library)) or platform.machine() != "x86_64" or not library.exists():
        return {}
    return {"LD_PRELOAD": str(library), "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}


def prepare_process(config: Config) -> None:
    """Settings that must stand before DeepSpeed is imported, and torch's threads."""
    if not uses_gpu(config):
        os.environ["DS_ACCELERATOR"] = "cpu"
        _set_threads(config.train.threads_per_worker)


def _set_threads(count: int) -> None:
    """Gives torch's threads to the calling thread alone.

    Every other thread that computes, such as gloo's, would get a pool of as many. With more pool threads than cores
    OpenMP's barriers sleep instead of spinning, tens of thousands of times a second: a fifth of a small model's step.
    """
    import torch

    torch.set_num_threads(count)
    torch.get_num_threads()  # Settles it for this thread, which else takes the number last set anywhere.
    others = Thread(target=torch.set_num_threads, args=(1,))
    others.start()
    others.join()


def peak_memory_gb(config: Config) -> float:
    """Most memory this worker has used: of the GPU, or resident."""
    if uses_gpu(config):
        import torch

        return float(torch.cuda.max_memory_allocated() / 1e9)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
