"""Can the cluster give what a run asks for?"""

from __future__ import annotations

import time
from typing import Any

from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.ray_session import is_own_cluster

_PATIENCE_S = 30.0
"""How long an autoscaling cluster is given to announce more nodes."""


def worker_resources(config: Config) -> dict[str, float]:
    """Ray resources of one worker; the CPUs default to its threads."""
    return {"CPU": float(config.train.threads_per_worker), **config.train.resources_per_worker}


def beside_driver(actor: type) -> Any:
    """An actor class whose actors run on the driver's node and take no CPU.

    Calls from workers are made again when the network between the nodes fails for a while, so an actor must not mind
    being told something twice.
    """
    import ray

    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(num_cpus=0, scheduling_strategy=here, max_task_retries=-1)(actor)


def check_capacity(config: Config) -> None:
    """Waits a little for enough nodes, where others may come; Ray Train itself would wait for ever.

    Raises:
        UserError: the workers do not fit.
    """
    resources = worker_resources(config)
    deadline = time.monotonic() + (0.0 if is_own_cluster() else _PATIENCE_S)
    least = config.train.least_workers
    while (fits := room_for(resources)) < least:
        if time.monotonic() >= deadline:
            wanted = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
            raise UserError(
                f"train.workers: {least} workers of {wanted} each do not fit into this cluster, which "
                f"has room for {fits}; lower train.workers or train.resources_per_worker, or add nodes"
            )
        time.sleep(1.0)


def room_for(resources: dict[str, float]) -> int:
    """How many workers that each need `resources` of one node the whole cluster holds, were nothing else on it."""
    import ray

    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            shares = [node["Resources"].get(name, 0.0) // amount for name, amount in resources.items() if amount > 0]
            total += int(min(shares, default=0))
    return total
