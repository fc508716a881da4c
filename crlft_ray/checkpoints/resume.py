"""Finds the newest checkpoint that is whole and brings to this rank what it needs of it.

the same layout:  each rank fetches and checks its own files
another one:      rank 0 checks all and converts them once to DeepSpeed's universal format, on the same storage;
                  every rank reads from that, or from one copy of it on its node

The layout is the world size, and how many elements the groups have in which a rank's optimizer works.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from crlft_ray.checkpoints.folder import (
    STATE,
    TAG,
    UNIVERSAL,
    Damaged,
    StoredCheckpoint,
    complete_checkpoints,
    fetch_file,
)
from crlft_ray.meeting import meet
from crlft_ray.scratch import Scratch, scratch_folder
from crlft_ray.storage import Place, patiently


class NoneUsable(Exception):  # noqa: N818
    """There are checkpoints, and every one is damaged."""


@dataclass
class Resumption:
    """A checkpoint as this rank will load it."""

    checkpoint: StoredCheckpoint
    scratch: Scratch
    """Local, with a folder named as the tag in it."""
    universal: bool
    passed_over: list[str] = field(default_factory=list)
    """Why newer checkpoints could not be used."""
    bytes_read: int = 0
    """By this rank, conversion included."""
    seconds: float = 0.0
    node_copy: Scratch | None = None
    """What this rank has brought for all ranks of its node."""

    @property
    def folder(self) -> Path:
        return self.scratch.path

    @property
    def tag(self) -> str:
        return UNIVERSAL if self.universal else TAG

    def close(self) -> None:
        """Removes the local copies; collective."""
        dist.barrier()
        self.remove_copies()

    def remove_copies(self) -> None:
        """Removes the local copies at once, also where another rank is still reading one."""
        for scratch in (self.scratch, self.node_copy):
            if scratch is not None:
                scratch.remove()


def find_resumption(folder: Place, sub_group_size: int) -> Resumption | None:
    """The newest checkpoint that every rank can use, fetched; None if there is none; collective.

    Args:
        folder: of the checkpoints.
        sub_group_size: DeepSpeed's setting of the engine that will load it.

    Raises:
        NoneUsable: there were some, all damaged.
    """
    began = time.perf_counter()
    # The folder as rank 0 sees it: another rank might look a moment later.
    first = dist.get_rank() == 0
    listed: list[Any] = [patiently(folder, lambda: complete_checkpoints(folder)) if first else None]
    dist.broadcast_object_list(listed)
    checkpoints, passed_over = listed[0]
    for checkpoint in checkpoints:
        state = checkpoint.state
        other_layout = (state.world_size, state.sub_group_size) != (dist.get_world_size(), sub_group_size)
        found = Resumption(checkpoint, Scratch(), other_layout, passed_over)
        reasons: list[str | None] = [None] * dist.get_world_size()
        reason = _fetch(found)
        meet(f"fetched {checkpoint.place.name}")
        dist.all_gather_object(reasons, reason)
        if not any(reasons):
            found.seconds = time.perf_counter() - began
            return found
        found.close()
        passed_over.append("; ".join(dict.fromkeys(filter(None, reasons))))
    if passed_over:
        raise NoneUsable("; ".join(passed_over))
    return None


def load(engine: Any, found: Resumption) -> None:
    """Loads it into a fresh engine, which was built with `universal` as it says; collective."""
    began = time.perf_counter()
    groups = [{k: v for k, v in group.items() if k != "params"} for group in engine.optimizer.optimizer.param_groups]
    loaded, _ = engine.load_checkpoint(str(found.folder), tag=found.tag)
    if loaded is None:
        raise RuntimeError(f"{found.checkpoint.place}: DeepSpeed could not load this checkpoint")
    # The settings are the config's, which may have changed; and a universal checkpoint puts those of the first group
    # into all of them.
    for group, settings in zip(engine.optimizer.optimizer.param_groups, groups, strict=True):
        group.update(settings)
    own_step_counters(engine.optimizer.optimizer)
    found.seconds += time.perf_counter() - began


def own_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Gives every parameter's state a step counter of its own, where the parameter is.

    A universal checkpoint puts one and the same counter into all of them, on the CPU, where the fused AdamW of a GPU
    would take its address for one of the GPU's memory.
    """
    for parameter, state in optimizer.state.items():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].to(parameter.device, copy=True)


def _fetch(found: Resumption) -> str | None:
    """Brings this rank's files; what is wrong with the checkpoint, if anything."""
    return _fetch_universal(found) if found.universal else _fetch_own(found)


def _fetch_own(found: Resumption) -> str | None:
    return _bring(found, [file for file in found.checkpoint.files if file.rank == dist.get_rank()], found.folder)


def _fetch_universal(found: Resumption) -> str | None:
    stored = found.checkpoint.place / UNIVERSAL
    told: list[str | None] = [_convert(found, stored) if dist.get_rank() == 0 else None]
    meet(f"converted {found.checkpoint.place.name}")
    dist.broadcast_object_list(told)
    if told[0] is not None:
        return told[0]
    local = Path(stored.path) if stored.is_local else _copy_for_node(found, stored)
    (found.folder / UNIVERSAL).symlink_to(local)
    # Every rank reads every parameter's state and keeps its part (DeepSpeed, load_hp_checkpoint_state).
    found.bytes_read += _size(local)
    return None


def _copy_for_node(found: Resumption, stored: Place) -> Path:
    """The copy of a universal checkpoint that the node's first rank has brought for all; collective."""
    node, copy = os.environ.get("NODE_RANK", "0"), None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        found.node_copy = Scratch()
        copy = found.node_copy.path / UNIVERSAL
        stored.copy_to_local(copy)
        found.bytes_read += _size(copy)
    meet(f"copied {found.checkpoint.place.name}")
    copies: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(copies, (node, copy))
    return next(Path(path) for of_node, path in copies if of_node == node and path is not None)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.pt"))


def _convert(found: Resumption, target: Place) -> str | None:
    """Converts once; a complete conversion of an earlier start is used again."""
    if (target / STATE).exists():
        return None
    with scratch_folder() as scratch:
        rigid = scratch / "rigid"
        problem = _bring(found, found.checkpoint.files, rigid)
        if problem is None:
            universal = scratch / UNIVERSAL
            _to_universal(rigid / TAG, universal)
            target.remove()
            target.copy_from_local(universal)
            # Last: a folder without it is not a whole conversion.
            (target / STATE).write_text("{}")
    return problem


def _bring(found: Resumption, files: list[Any], into: Path) -> str | None:
    try:
        for file in files:
            target = into / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                fetch_file(found.checkpoint, file, stream)
            found.bytes_read += file.size
    except Damaged as damage:
        return str(damage)
    return None


def _to_universal(rigid: Path, universal: Path) -> None:
    from deepspeed.checkpoint import ds_to_universal

    settings = Namespace(
        input_folder=str(rigid),
        output_folder=str(universal),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    ds_to_universal.main(settings)
