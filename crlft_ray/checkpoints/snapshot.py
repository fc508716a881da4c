"""The only part of a checkpoint that training waits for: a copy of this rank's state out of the engine."""

from __future__ import annotations

import tempfile
from pathlib import PurePath
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine
from torch.utils import _pytree as pytree

from crlft_ray.checkpoints.folder import TAG


class Snapshots(CheckpointEngine):  # type: ignore[misc]
    """Takes the place of DeepSpeed's checkpoint engine: what it would save is copied to the host's memory.

    The buffers are used again for the next snapshot, so that one costs a copy and no allocation (and on CPUs no page
    faults); the last one must have been written until then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "snapshots"
        self._contents: dict[str, Any] = {}
        self._buffers: dict[tuple[str, int], torch.Tensor] = {}

    def take(self, engine: Any) -> dict[str, Any]:
        """This rank's files by name, as `torch.save` writes them; collective."""
        self._contents = {}
        before, engine.checkpoint_engine = engine.checkpoint_engine, self
        try:
            with tempfile.TemporaryDirectory() as folder:
                # Rank 0 leaves DeepSpeed's recovery scripts here; nothing else is written.
                engine.save_checkpoint(folder, tag=TAG, save_latest=False)
        finally:
            engine.checkpoint_engine = before
        return self._contents

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing to prepare."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """No folder is needed."""

    def save(self, state_dict: Any, path: str) -> None:
        name = PurePath(path).name
        tensors, structure = pytree.tree_flatten(state_dict)
        copies = [
            self._copy(name, number, leaf) if isinstance(leaf, torch.Tensor) else leaf
            for number, leaf in enumerate(tensors)
        ]
        self._contents[f"{TAG}/{name}"] = pytree.tree_unflatten(copies, structure)

    def load(self, path: str, map_location: Any = None) -> Any:
        raise NotImplementedError("snapshots are loaded by DeepSpeed's own engine")

    def commit(self, info: CheckpointCommitInfo) -> bool:
        return True

    def preserves_storage_sharing(self) -> bool:
        return False

    def _copy(self, name: str, number: int, tensor: torch.Tensor) -> torch.Tensor:
        buffer = self._buffers.get((name, number))
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pinned = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[(name, number)] = buffer
        return buffer.copy_(tensor.detach())
