"""What a training asks of the cluster."""

from __future__ import annotations

from typing import Any

from crlft_ray.capacity import wait_for_room
from crlft_ray.config import Config
from crlft_ray.errors import UserError


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
    """Waits for enough nodes, where others may come; Ray Train itself would wait for ever.

    Raises:
        UserError: the workers do not fit.
    """
    resources, least = worker_resources(config), config.train.least_workers
    fits = wait_for_room(resources, least)
    if fits < least:
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
        raise UserError(
            f"train.workers: {least} workers of {wanted} each do not fit into this cluster, which "
            f"has room for {fits}; lower train.workers or train.resources_per_worker, or add nodes"
        )
