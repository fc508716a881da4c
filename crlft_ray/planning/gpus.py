"""GPUs as their makers publish them."""

from __future__ import annotations

from dataclasses import dataclass

from crlft_ray.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    memory: float
    """Bytes; the published GB as 1e9 bytes, which leaves a part for the driver and error correction."""
    flops: float
    """Peak FLOP/s of dense bf16 matrix products (no sparsity)."""
    link: float
    """Bytes/s in one direction between the GPUs of a node: NVLink, Infinity Fabric, or PCIe where there is none."""
    host_link: float
    """Bytes/s in one direction to the host's memory."""


def _gpu(memory_gb: float, tflops: float, link_gb: float, host_link_gb: float) -> Gpu:
    return Gpu(memory_gb * 1e9, tflops * 1e12, link_gb * 1e9, host_link_gb * 1e9)


# Data sheets of NVIDIA and AMD. Links are published as the sum of both directions; here is one of them.
GPUS = {
    "a10g": _gpu(24, 70, 32, 32),
    "l4": _gpu(24, 121, 32, 32),
    "l40s": _gpu(48, 362, 32, 32),
    "a100-40g": _gpu(40, 312, 300, 32),
    "a100-80g": _gpu(80, 312, 300, 32),
    "h100-80g": _gpu(80, 989, 450, 64),
    "h200": _gpu(141, 989, 450, 64),
    "b200": _gpu(180, 2250, 900, 64),
    "mi300x": _gpu(192, 1307, 448, 64),
}


def gpu_named(name: str) -> Gpu:
    """A GPU of the table.

    Raises:
        UserError: it is not in it.
    """
    if name not in GPUS:
        raise UserError(f"--gpu {name}: not known; known are {', '.join(GPUS)}")
    return GPUS[name]
