"""What one GPU holds, as deepspeed 0.19 (runtime/zero/stage3.py) allocates it under our settings."""

from __future__ import annotations

from dataclasses import dataclass

from crlft_ray.planning.figure import Figure, Figures, billions, exact
from crlft_ray.planning.gpus import Gpu
from crlft_ray.planning.residency import Residency, residency
from crlft_ray.planning.size import ModelSize
from crlft_ray.planning.zero import Zero

_CHUNK_TOKENS = 512
_CONTEXT_BYTES = 1.5e9
_FRAGMENTATION = 0.05
MASTER_BYTES = 12
"""fp32 weight and two fp32 moments of Adam."""


@dataclass(frozen=True)
class Memory:
    """Of one rank, in bytes."""

    always: Figures
    """Held all the time."""
    micro_batch: Figures
    """Held besides in a forward and backward pass."""
    step: Figures
    """Held besides in an optimizer step."""
    host: Figures
    """In the memory of each node."""
    unused: Figures
    """What the same run would keep with gradient checkpointing turned the other way."""
    usable: Figure
    """Of the GPU."""

    @property
    def peak(self) -> float:
        """Most that is held at one time."""
        return _sum(self.always) + max(_sum(self.micro_batch), _sum(self.step))

    @property
    def fits(self) -> bool:
        return self.peak <= self.usable.value


def partition(size: ModelSize, world: int) -> int:
    """Elements of one rank's part: each parameter is split on its own, and padded."""
    return sum(-(-elements // world) for elements in size.parameters)


def memory(size: ModelSize, zero: Zero, gpu: Gpu, *, nodes: int, gpus: int, checkpointing: bool) -> Memory:
    """What a rank of `nodes` x `gpus` holds."""
    world = nodes * gpus
    there = residency(size.parameters, size.modules, size.finished, zero.rules, checkpointing)
    here, other = activations(size, checkpointing), activations(size, not checkpointing)
    return Memory(
        always=_always(size, zero, there, world),
        micro_batch={"activations": here, **_loss(size, zero), **_gathered(size, zero, there, world)},
        step=_step(size, zero, world),
        host=_host(size, zero, world, gpus),
        unused={f"activations {'without' if checkpointing else 'with'} gradient checkpointing": other},
        usable=Figure(
            gpu.memory * (1 - _FRAGMENTATION) - _CONTEXT_BYTES,
            "bytes",
            f"{gpu.memory / 1e9:g} GB less {_FRAGMENTATION:.0%} lost to fragmentation and {_CONTEXT_BYTES / 1e9:g} GB "
            "for the driver's context and NCCL",
        ),
    )


def activations(size: ModelSize, checkpointing: bool) -> Figure:
    """What the backward pass of one pack keeps."""
    if checkpointing:
        value = len(size.layer_bytes) * size.input_bytes + max(size.layer_bytes, default=0) + size.outer_bytes
        return Figure(
            value,
            "bytes",
            f"{len(size.layer_bytes)} layers' inputs of {size.input_bytes:,} bytes, one layer's "
            f"{max(size.layer_bytes, default=0):,} computed again, {size.outer_bytes:,} outside of layers",
        )
    return Figure(
        sum(size.layer_bytes) + size.outer_bytes,
        "bytes",
        f"what autograd keeps of one pack in the model's own code, run without data: {len(size.layer_bytes)} layers "
        f"of {max(size.layer_bytes, default=0):,} bytes, {size.outer_bytes:,} outside of them",
    )


def _always(size: ModelSize, zero: Zero, there: Residency, world: int) -> Figures:
    mine = partition(size, world)
    share = f"{size.total:,} parameters / {world} ranks"
    figures = {"reduce bucket": exact(zero.reduce_bucket * zero.reduce_bytes, "bytes",
               f"{zero.reduce_bucket:,} elements x {zero.reduce_bytes}")}  # fmt: skip
    if not zero.offload_parameters:
        figures["parameters"] = exact(mine * zero.parameter_bytes, "bytes", f"{share} x {zero.parameter_bytes}")
    if not zero.offload_optimizer:
        figures["gradients"] = exact(mine * zero.gradient_bytes, "bytes", f"{share} x {zero.gradient_bytes}")
        figures["optimizer state"] = exact(
            mine * MASTER_BYTES, "bytes", f"{share} x {MASTER_BYTES} (fp32 weights and two moments)"
        )
    if world > 1:
        figures["small parameters"] = exact(
            there.persistent * zero.parameter_bytes,
            "bytes",
            f"{there.persistent:,} elements of parameters up to {zero.rules.persistence:,} stay whole x "
            f"{zero.parameter_bytes}",
        )
    return figures


def _loss(size: ModelSize, zero: Zero) -> Figures:
    each = zero.parameter_bytes + 8
    chunk = _CHUNK_TOKENS * size.vocabulary * each
    return {
        "logits of a chunk": Figure(
            chunk,
            "bytes",
            f"{_CHUNK_TOKENS} tokens x {size.vocabulary:,} words x {each} (logits, the same in fp32, a temporary)",
        ),
        "largest gradient": Figure(
            2 * size.largest * zero.parameter_bytes,
            "bytes",
            f"{size.largest:,} elements x {zero.parameter_bytes}, twice where embedding and output layer are one",
        ),
    }


def _gathered(size: ModelSize, zero: Zero, there: Residency, world: int) -> Figures:
    if world == 1 and not zero.offload_parameters:
        return {}
    copied = min(zero.rules.prefetch_bucket + size.largest, size.total)
    reduced = max(min(zero.reduce_bucket, size.total), size.largest)
    return {
        "gathered layers": Figure(
            there.peak * zero.parameter_bytes,
            "bytes",
            f"most that is whole at one time by DeepSpeed's rules (largest parameter {size.largest:,}; reuse within "
            f"{billions(zero.rules.max_reuse)}, at most {billions(zero.rules.max_live)} ahead): {there.peak:,} x "
            f"{zero.parameter_bytes}",
        ),
        "gathering": Figure(
            copied * zero.parameter_bytes,
            "bytes",
            f"a prefetch bucket and the parameter that overfills it, before they are copied into place: {copied:,} x "
            f"{zero.parameter_bytes}",
        ),
        "reducing": Figure(
            reduced * zero.reduce_bytes,
            "bytes",
            f"the bucket in the order of the ranks, or the largest gradient: {reduced:,} x {zero.reduce_bytes}",
        ),
    }


def _step(size: ModelSize, zero: Zero, world: int) -> Figures:
    if zero.offload_optimizer:
        return {}
    flat = min(partition(size, world), zero.sub_group + -(-size.largest // world))
    return {
        "gradients laid flat": Figure(
            flat * 4, "bytes", f"fp32 copy of one group of up to {billions(zero.sub_group)} elements: {flat:,} x 4"
        )
    }


def _host(size: ModelSize, zero: Zero, world: int, gpus: int) -> Figures:
    mine = gpus * partition(size, world)
    each = f"{gpus} ranks x {size.total:,} / {world}"
    figures = {
        "copy for checkpoints": exact(mine * MASTER_BYTES, "bytes", f"{each} x {MASTER_BYTES}"),
    }
    if zero.offload_optimizer:
        both = zero.gradient_bytes + 4
        figures["gradients"] = Figure(mine * both, "bytes", f"{each} x {both} (accumulated, and flat for Adam)")
        figures["optimizer state"] = Figure(mine * MASTER_BYTES, "bytes", f"{each} x {MASTER_BYTES}")
    if zero.offload_parameters:
        figures["parameters"] = Figure(mine * zero.parameter_bytes, "bytes", f"{each} x {zero.parameter_bytes}")
    return figures


def _sum(figures: Figures) -> float:
    return sum(figure.value for figure in figures.values())
