"""The collective that training lives on, over all nodes, and how fast it is."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import START_S, Answer, Cluster, Node, opened
from crlft_ray.network import follow_ray_address

CHECK = "all-reduce"
_TIMEOUT_S = 30.0
_NUMBERS = 8 * 2**20
"""fp32 numbers that are summed at a time: 32 MiB."""
_ROUNDS = 3


def free_port(address: str) -> int:
    """A port that nobody listens at."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def all_reduce(backend: str, rank: int, size: int, store: str, numbers: int, rounds: int, seconds: float) -> Any:
    """One rank: the bus bandwidth in GB/s, 2 (n-1)/n · bytes / seconds as NCCL's tests count it, and the interface."""
    interface = follow_ray_address()
    import torch
    from torch import distributed

    if backend == "nccl":
        interface = os.environ["NCCL_SOCKET_IFNAME"].removeprefix("=")
    distributed.init_process_group(
        backend, init_method=f"tcp://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
    )
    try:
        device = "cuda" if backend == "nccl" else "cpu"
        sums = torch.full((numbers,), float(rank), device=device)
        distributed.all_reduce(sums)
        if float(sums[0]) != size * (size - 1) / 2 or float(sums[-1]) != size * (size - 1) / 2:
            raise ValueError(f"the sum over {size} ranks is {float(sums[0])}")
        began = time.perf_counter()
        for _ in range(rounds):
            distributed.all_reduce(sums)
        # Waits for the GPU, too.
        float(sums[0])
        took = (time.perf_counter() - began) / rounds
    finally:
        distributed.destroy_process_group()
    return 2 * (size - 1) / size * 4 * numbers / took / 1e9, interface


def check_all_reduce(cluster: Cluster) -> list[Finding]:
    """gloo over all nodes, and NCCL over those with GPUs; nothing to do on a single node."""
    findings = _over(cluster, "gloo") if len(cluster.nodes) > 1 else []
    gpu_nodes = [node for node in cluster.nodes if node.resources.get("GPU", 0) >= 1]
    if len(gpu_nodes) > 1:
        with opened(cluster.config, gpu_nodes, {"num_gpus": 1}) as on_gpus:
            findings += _over(on_gpus, "nccl")
    return findings


def _over(cluster: Cluster, backend: str) -> list[Finding]:
    check = f"{CHECK} {backend}"

    def judge(node: Node, found: tuple[float, str]) -> tuple[bool, str]:
        return True, f"{found[0]:.2f} GB/s over {found[1]}"

    first = cluster.nodes[0]
    port = cluster.ask_each(free_port, {first: (first.address,)}, seconds=START_S)[first]
    if port.error:
        busy = " (are all its GPUs in use? then ask again later)" if backend == "nccl" else ""
        return judged(check, {first: Answer(error=f"{port.error}{busy}")}, judge)
    host = f"[{first.address}]" if ":" in first.address else first.address
    arguments = {
        node: (backend, rank, len(cluster.nodes), f"{host}:{port.value}", _NUMBERS, _ROUNDS, _TIMEOUT_S)
        for rank, node in enumerate(cluster.nodes)
    }
    return judged(check, _explained(cluster.ask_each(all_reduce, arguments, 2 * _TIMEOUT_S + START_S)), judge)


def _explained(answers: Mapping[Node, Answer]) -> dict[Node, Answer]:
    others = ", ".join(node.name for node in answers)
    advice = (
        f"among {others}; if the ports are well, set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME where Ray is started"
    )
    return {
        node: Answer(answer.value, f"{answer.error} ({advice})" if answer.error else None)
        for node, answer in answers.items()
    }
