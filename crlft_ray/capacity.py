"""How many workers the cluster holds, and waiting for the nodes that it starts."""

from __future__ import annotations

import json
import logging
import time

from crlft_ray.ray_session import is_own_cluster

log = logging.getLogger(__name__)

_PATIENCE_S = 30.0
"""How long nodes are waited for that nobody says are starting."""
_STARTING_S = 1200.0
"""How long nodes may take to start before nobody counts on them: a cloud may have none left to give."""
_SAY_EVERY_S = 60.0


def wait_for_room(resources: dict[str, float], workers: int) -> int:
    """How many workers fit into the cluster, which is asked for as many nodes as `workers` need and given time.

    A cluster that does not start nodes gets half a minute, in which some may join it; one that does is waited for as
    long as nodes are on their way.
    """
    import ray
    from ray.exceptions import RayError

    fits, taken = room_for(resources), {name: amount for name, amount in resources.items() if amount > 0}
    if fits >= workers or is_own_cluster() or not taken:
        return fits
    # What an autoscaler starts nodes for is what waits for resources. Nothing runs in it.
    demand = ray.util.placement_group([taken] * workers)
    most, coming = fits, 0
    more_at = sign_at = said_at = time.monotonic()
    try:
        while fits < workers:
            now = time.monotonic()
            try:
                coming = nodes_on_their_way()
                fits = room_for(resources)
            except RayError as error:
                # A head that comes back, perhaps.
                log.warning("waiting for nodes: %s", error)
            if fits > most:
                most, more_at, sign_at = fits, now, now
            if coming and now - more_at < _STARTING_S:
                sign_at = now
            if now - sign_at >= _PATIENCE_S:
                break
            if coming and now - said_at >= _SAY_EVERY_S:
                log.info("waiting for nodes: %d of %d workers fit, %d more nodes are starting", fits, workers, coming)
                said_at = now
            time.sleep(1.0)
    finally:
        ray.util.remove_placement_group(demand)
    return fits


def nodes_on_their_way() -> int:
    """How many nodes the cluster's autoscaler is starting; 0 where there is none.

    Ray has two autoscalers, which keep their state in different places; `ray status` reads the same two.
    """
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    if is_autoscaler_v2():
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return len(status.pending_nodes) + sum(int(launch.count) for launch in status.pending_launches)
    kept = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(kept).get("autoscaler_report") if kept else None) or {}
    return len(report.get("pending_nodes", ())) + sum(map(int, report.get("pending_launches", {}).values()))


def room_for(resources: dict[str, float]) -> int:
    """How many workers that each need `resources` of one node the whole cluster holds, were nothing else on it."""
    import ray

    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            shares = [node["Resources"].get(name, 0.0) // amount for name, amount in resources.items() if amount > 0]
            total += int(min(shares, default=0))
    return total
