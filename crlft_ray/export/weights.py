"""Writes the weights of a partitioned model as safetensors, one shard file in memory at a time."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

MAX_SHARD_BYTES = 4 << 30
_ALL_ARENAS_PURGE = b"arena.4096.purge"
"""jemalloc's, whose `MALLCTL_ARENAS_ALL` is 4096."""


@dataclass(frozen=True)
class _Tensor:
    """A parameter or buffer under its name in the model."""

    name: str
    value: torch.Tensor

    @property
    def numel(self) -> int:
        # A partitioned parameter is empty; DeepSpeed keeps its real size beside it.
        return int(getattr(self.value, "ds_numel", self.value.numel()))

    @property
    def nbytes(self) -> int:
        return self.numel * self.value.element_size()


def write_weights(model: torch.nn.Module, folder: Path | None, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Gathers parameter by parameter and writes shard files of at most `max_shard_bytes` (or one parameter).

    Collective on a partitioned model: every rank calls it, the one with a `folder` writes. That rank holds one shard
    file's tensors and one gathered parameter at most; tied parameters are stored once.
    """
    shards = _plan(list(_tensors(model)), max_shard_bytes)
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        index.update(dict.fromkeys((tensor.name for tensor in shard), name))
        _write_file(shard, None if folder is None else folder / name)
    if folder is not None and len(shards) > 1:
        total = sum(tensor.nbytes for shard in shards for tensor in shard)
        content = {"metadata": {"total_size": total}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def _give_back_freed_memory() -> None:
    """Allocators keep what was freed; gathering would pile up half a model of it beside what training had left."""
    library = ctypes.CDLL(None)
    if purge := getattr(library, "mallctl", None):
        purge(_ALL_ARENAS_PURGE, None, None, None, ctypes.c_size_t(0))
    elif trim := getattr(library, "malloc_trim", None):
        trim(0)


def _write_file(tensors: list[_Tensor], file: Path | None) -> None:
    gathered: dict[str, torch.Tensor] = {}
    for tensor in tensors:
        # After each one, or what was gathered and freed grows to a second shard file.
        _give_back_freed_memory()
        whole = _gather(tensor.value, file is not None)
        if whole is not None:
            gathered[tensor.name] = whole
    if file is not None:
        from safetensors.torch import save_file

        save_file(gathered, file, metadata={"format": "pt"})


def _tensors(model: torch.nn.Module) -> Iterator[_Tensor]:
    for name, parameter in model.named_parameters():
        yield _Tensor(name, parameter)
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield _Tensor(f"{prefix}.{name}".lstrip("."), buffer)


def _plan(tensors: list[_Tensor], max_shard_bytes: int) -> list[list[_Tensor]]:
    shards: list[list[_Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


def _gather(value: torch.Tensor, writes: bool) -> torch.Tensor | None:
    """The whole tensor on the CPU of the rank that writes."""
    if not hasattr(value, "ds_id"):
        return value.detach().to("cpu", copy=True).contiguous() if writes else None
    import deepspeed

    with deepspeed.zero.GatheredParameters([value]):
        return value.detach().to("cpu", copy=True).contiguous() if writes else None
