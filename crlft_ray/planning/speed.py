"""How long a step takes: from published rates and stated assumptions, nothing of it measured on GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from crlft_ray.planning.figure import Figure, Figures, billions, exact
from crlft_ray.planning.gpus import Gpu
from crlft_ray.planning.memory import partition
from crlft_ray.planning.residency import residency
from crlft_ray.planning.size import ModelSize
from crlft_ray.planning.zero import Zero

UTILISATION = 0.4
"""Share of the published FLOP rate that dense training reaches (Llama 3 405B on H100: 0.38 to 0.43; Grattafiori et
al., 2024)."""
LINK_SHARE = 0.7
"""Of a link's published rate that collectives reach."""
_HOST_ADAM = 20e9
"""Bytes/s of the host's memory for each GPU's share of Adam."""


@dataclass(frozen=True)
class Cluster:
    """What a plan is for."""

    nodes: int
    gpus: int
    """Of each node."""
    gpu: Gpu
    network: float
    """Bytes/s between nodes, each in one direction."""

    @property
    def world(self) -> int:
        return self.nodes * self.gpus

    @property
    def link(self) -> float:
        """Bytes/s of the slowest link of a ring over all GPUs."""
        return self.gpu.link if self.nodes == 1 else min(self.gpu.link, self.network)


def communication(size: ModelSize, zero: Zero, world: int, *, micro_batches: int, checkpointing: bool) -> Figures:
    """Bytes that one rank sends in a step of `micro_batches`, on a ring: each collective's whole x (W - 1) / W."""
    there = residency(size.parameters, size.modules, size.finished, zero.rules, checkpointing)
    share = (world - 1) / world
    whole = world * partition(size, world)
    gathered = (micro_batches * there.gathered + there.persistent) * zero.parameter_bytes * share
    reduced = micro_batches * whole * zero.reduce_bytes * share
    ring = f"x {world - 1}/{world}"
    return {
        "gathering parameters": exact(
            gathered,
            "bytes",
            f"({micro_batches} micro-batches x {there.gathered:,} elements, by DeepSpeed's rules of reuse, + "
            f"{there.persistent:,} once) x {zero.parameter_bytes} {ring}",
        ),
        "reducing gradients": exact(
            reduced, "bytes", f"{micro_batches} micro-batches x {whole:,} elements x {zero.reduce_bytes} {ring}"
        ),
    }


def step_time(
    size: ModelSize, zero: Zero, cluster: Cluster, sent: Figures, *, micro_batches: int, checkpointing: bool
) -> Figures:
    """Seconds of a step, by what they are spent on, and in all."""
    passes = 4 if checkpointing else 3
    flops = micro_batches * (passes * size.layer_flops + 4 * size.head_flops)
    compute = flops / (cluster.gpu.flops * UTILISATION)
    sent_bytes = sum(figure.value for figure in sent.values())
    network = sent_bytes / (cluster.link * LINK_SHARE) if cluster.world > 1 else 0.0
    optimizer = _optimizer(size, zero, cluster)
    together = max(compute, network) if zero.overlap else compute + network
    return {
        "computation": Figure(
            compute,
            "s",
            f"{micro_batches} micro-batches x ({passes} x {billions(size.layer_flops)} FLOP of the layers + 4 x "
            f"{billions(size.head_flops)} of the output layer) / ({billions(cluster.gpu.flops)} FLOP/s x "
            f"{UTILISATION:.0%} used)",
        ),
        "communication": Figure(
            network,
            "s",
            f"{billions(sent_bytes)} bytes / ({billions(cluster.link)} bytes/s of the slowest link x "
            f"{LINK_SHARE:.0%} reached)",
        ),
        "optimizer": optimizer,
        "step": Figure(
            together + optimizer.value,
            "s",
            f"{'the longer of computation and communication' if zero.overlap else 'computation + communication'} "
            "+ optimizer",
        ),
    }


def _optimizer(size: ModelSize, zero: Zero, cluster: Cluster) -> Figure:
    mine = partition(size, cluster.world)
    if not zero.offload_optimizer:
        return Figure(0.0, "s", "fused AdamW on the GPU: memory traffic alone, left out")
    moved = mine * (zero.gradient_bytes + zero.parameter_bytes) / (cluster.gpu.host_link * LINK_SHARE)
    return Figure(
        moved + mine * 28 / _HOST_ADAM,
        "s",
        f"{mine:,} elements x {zero.gradient_bytes + zero.parameter_bytes} bytes / ({billions(cluster.gpu.host_link)} "
        f"bytes/s x {LINK_SHARE:.0%}) + x 28 bytes of Adam on the host / {billions(_HOST_ADAM)} bytes/s",
    )
