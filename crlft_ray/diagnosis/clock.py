"""Do the clocks agree? Signed requests to S3, leases and the times in MLflow need that."""

from __future__ import annotations

import time

from crlft_ray.diagnosis.finding import Finding
from crlft_ray.diagnosis.nodes import Cluster, Node

CHECK = "clock"
_MOST_S = 1.0
_ROUNDS = 3


def check_clock(cluster: Cluster) -> list[Finding]:
    """Compares every node's clock with this one's; half of the quickest round trip is the uncertainty."""
    return [_judge(node, *_offset(cluster, node)) for node in cluster.nodes]


def _offset(cluster: Cluster, node: Node) -> tuple[float | None, float]:
    """Seconds by which the node's clock is ahead, and how far off that may be; None without an answer."""
    best: tuple[float | None, float] = (None, float("inf"))
    for _ in range(_ROUNDS):
        before = time.time()
        answer = cluster.ask_each(time.time, {node: ()}, seconds=10.0)[node]
        after = time.time()
        if answer.error is None and (after - before) / 2 < best[1]:
            best = (answer.value - (before + after) / 2, (after - before) / 2)
    return best


def _judge(node: Node, ahead: float | None, uncertainty: float) -> Finding:
    if ahead is None:
        return Finding(CHECK, node.name, False, "could not be checked: no answer within 10 s")
    if abs(ahead) > _MOST_S + uncertainty:
        text = (
            f"the clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the driver's: "
            "let chrony or another NTP client set it"
        )
        return Finding(CHECK, node.name, False, text)
    return Finding(CHECK, node.name, True, f"within {abs(ahead) + uncertainty:.3f} s of the driver's")
