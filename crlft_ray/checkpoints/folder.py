"""Checkpoints on storage: their names, what makes one complete, which are kept.

    checkpoints/
      attempt.json                        number of the newest attempt: a start of all workers
      checkpoint_0003_00000050/           attempt 3, after step 50
        zero3/…optim_states.pt            written by every rank
        universal/                        made when another layout goes on from it: as of another number of workers
        state.json                        written last: the run's state, and the size and SHA-256 of every file

A folder without state.json is no checkpoint. An attempt writes only under its own number, so a worker of an earlier
one that wakes up late cannot touch what came after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyarrow import fs

from crlft_ray.checkpoints.state import RunState
from crlft_ray.storage import Place

STATE = "state.json"
TAG = "zero3"
UNIVERSAL = "universal"
_ATTEMPT = "attempt.json"
_PREFIX = "checkpoint_"
_PART = 16 << 20


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkpoint."""

    name: str
    """Relative to the checkpoint's folder."""
    rank: int
    """Who wrote it, and reads it where the layout is the same."""
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint."""

    place: Place
    state: RunState
    files: list[StoredFile]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


class Damaged(Exception):  # noqa: N818
    """A checkpoint that cannot be used; the message names the file and what is wrong with it."""


def checkpoint_place(folder: Place, attempt: int, step: int) -> Place:
    """Where an attempt's checkpoint after a step lies; names sort by age."""
    return folder / f"{_PREFIX}{attempt:04}_{step:08}"


def begin_attempt(folder: Place) -> int:
    """Takes the next attempt's number."""
    place = folder.make_folder() / _ATTEMPT
    attempt = 1 + max([*map(_attempt_of, _folders(folder)), _noted_attempt(place)], default=0)
    place.write_text(json.dumps({"attempt": attempt}))
    return attempt


def complete_checkpoints(folder: Place) -> tuple[list[StoredCheckpoint], list[str]]:
    """All complete checkpoints, the newest first; and what is wrong with those whose state.json is damaged."""
    found, damages = [], []
    for place in reversed(_folders(folder)):
        if (place / STATE).exists():
            try:
                found.append(read_checkpoint(place))
            except Damaged as damage:
                damages.append(str(damage))
    return found, damages


def read_checkpoint(place: Place) -> StoredCheckpoint:
    """What state.json says.

    Raises:
        Damaged: it is not as it was written.
    """
    try:
        content = json.loads((place / STATE).read_text())
        if _digest(content) != content["sha256"]:
            raise Damaged(f"{place / STATE} is damaged: its SHA-256 is not the one that it names")
        return StoredCheckpoint(place, RunState(**content["state"]), [StoredFile(**file) for file in content["files"]])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{place / STATE} is damaged: {error}") from None


def commit(place: Place, state: RunState, files: Sequence[StoredFile]) -> None:
    """Makes a checkpoint complete.

    Raises:
        OSError: a file is not there as its rank wrote it; for instance because each node wrote to a disk of its own.
    """
    infos = place.filesystem.get_file_info([(place / file.name).path for file in files])
    for file, info in zip(files, infos, strict=True):
        if info.type != fs.FileType.File or info.size != file.size:
            raise OSError(
                f"{place / file.name}: rank {file.rank} wrote {file.size} bytes, rank 0 finds {info.size or 'none'}; "
                "the output must be on storage that all nodes share"
            )
    content = {"state": asdict(state), "files": [asdict(file) for file in files]}
    (place / STATE).write_text(json.dumps({**content, "sha256": _digest(content)}, indent=1))


def remove_old(folder: Place, keep: int) -> None:
    """Keeps the `keep` newest checkpoints and the best by held-out loss; removes others, and what never became one.

    Only what is older than the newest complete checkpoint is removed: later folders are being written.
    """
    places = _folders(folder)
    complete, _ = complete_checkpoints(folder)
    kept = {found.place.path for found in complete[:keep]}
    measured = [found for found in complete if found.state.heldout is not None]
    if measured:
        kept.add(min(measured, key=lambda found: found.state.heldout or 0.0).place.path)
    for place in places:
        if complete and place.path < complete[0].place.path and place.path not in kept:
            # Without state.json it is no checkpoint, even if the removal ends half-way.
            (place / STATE).remove()
            place.remove()


def fetch_file(checkpoint: StoredCheckpoint, file: StoredFile, target: Any = None) -> None:
    """Reads a file once and checks it; writes it to `target`, a binary file, on the way.

    Raises:
        Damaged: it is missing or not as it was written.
    """
    place = checkpoint.place / file.name
    digest, size = hashlib.sha256(), 0
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            while part := stream.read(_PART):
                digest.update(part)
                size += len(part)
                if target is not None:
                    target.write(part)
    except FileNotFoundError:
        raise Damaged(f"{place} is missing") from None
    if size != file.size:
        raise Damaged(f"{place} is cut off: {size} of {file.size} bytes")
    if digest.hexdigest() != file.sha256:
        raise Damaged(f"{place} is damaged: its SHA-256 is not the one that {STATE} names")


def _digest(content: dict[str, Any]) -> str:
    covered = {key: content[key] for key in ("state", "files")}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def _folders(folder: Place) -> list[Place]:
    if not folder.is_folder():
        return []
    return [place for place in folder.children() if place.name.startswith(_PREFIX)]


def _attempt_of(place: Place) -> int:
    return int(place.name.removeprefix(_PREFIX).split("_")[0])


def _noted_attempt(place: Place) -> int:
    return int(json.loads(place.read_text())["attempt"]) if place.exists() else 0
