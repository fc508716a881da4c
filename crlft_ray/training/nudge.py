"""Makes Ray count again what its nodes have to spare."""

from __future__ import annotations

import time
from typing import Any

_AFTER_S = 45.0
"""Less than the minute after which Ray Train gives an attempt to start its workers up."""


class Nudge:
    """Changes something on every node when nothing has been heard of a training for a while.

    Where a reservation failed because a node's network did, Ray's head takes what was reserved for gone until anything
    changes on that node (2.60; https://github.com/ray-project/ray/pull/65271): workers that need it never start.
    """

    def __init__(self) -> None:
        self._seen = -1
        self._since = time.monotonic()

    def heard(self, step: int) -> None:
        """The training's newest step; called again and again."""
        if step != self._seen:
            self._seen, self._since = step, time.monotonic()
        elif time.monotonic() - self._since > _AFTER_S:
            self._since = time.monotonic()
            touch_nodes()


def touch_nodes() -> list[Any]:
    """Starts an empty task on every node; returns them without waiting."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(_nothing)
    return [
        task.options(
            num_cpus=0,
            # Every node has this resource, so that something changes there.
            resources={f"node:{node['NodeManagerAddress']}": 0.001},
            # A trial's tasks would otherwise have to fit into what Ray Tune reserved for it.
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            max_retries=0,
        ).remote()
        for node in ray.nodes()
        if node["Alive"]
    ]


def _nothing() -> None:
    pass
