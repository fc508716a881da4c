"""What makes a checkpoint complete, which ones are kept, and whose."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from crlft_ray.checkpoints.folder import (
    Damaged,
    StoredFile,
    begin_attempt,
    checkpoint_place,
    commit,
    complete_checkpoints,
    fetch_file,
    read_checkpoint,
    remove_old,
)
from crlft_ray.checkpoints.state import RunState
from crlft_ray.storage import Place

STATE = RunState(0, 0, 2, "f", "t", {"hidden_size": 16}, 1000, 0, "run", 0, 0, None, {"train": {"betas": (0.9, 0.95)}})
CONTENT = b"some tensors" * 1000


def _write(folder: Place, attempt: int, step: int, heldout: float | None = None, *, complete: bool = True) -> Place:
    place = checkpoint_place(folder, attempt, step)
    (place / "zero3").make_folder()
    (place / "zero3/a.pt").write_bytes(CONTENT)
    file = StoredFile("zero3/a.pt", 0, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    if complete:
        commit(place, replace(STATE, step=step, heldout=heldout), [file])
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "checkpoints").make_folder()


def _steps(folder: Place) -> list[int]:
    found, damages = complete_checkpoints(folder)
    assert not damages
    return [checkpoint.state.step for checkpoint in found]


def test_what_was_written_is_read(folder: Place) -> None:
    place = _write(folder, 1, 50, 2.5)
    found = read_checkpoint(place)
    assert found.state == replace(STATE, step=50, heldout=2.5, config={"train": {"betas": [0.9, 0.95]}})
    target = io.BytesIO()
    fetch_file(found, found.files[0], target)
    assert target.getvalue() == CONTENT


def test_a_half_written_one_is_none(folder: Place) -> None:
    _write(folder, 1, 50)
    _write(folder, 1, 100, complete=False)
    assert _steps(folder) == [50]


def test_the_newest_is_of_the_newest_attempt(folder: Place) -> None:
    """A worker of an earlier attempt that wakes up late commits under its own number: never the newest again."""
    _write(folder, 1, 50)
    assert begin_attempt(folder) == 2
    _write(folder, 2, 60)
    _write(folder, 1, 100)
    assert _steps(folder) == [60, 100, 50]


def test_attempts_are_counted_also_if_they_wrote_nothing(folder: Place) -> None:
    assert [begin_attempt(folder) for _ in range(3)] == [1, 2, 3]
    _write(folder, 7, 1, complete=False)
    assert begin_attempt(folder) == 8


def test_newest_and_best_are_kept(folder: Place) -> None:
    for step, heldout in ((10, 3.0), (20, 2.0), (30, 2.5), (40, None), (50, 2.2)):
        _write(folder, 1, step, heldout)
    remove_old(folder, keep=2)
    assert _steps(folder) == [50, 40, 20]


def test_remains_are_removed_but_what_is_being_written_stays(folder: Place) -> None:
    dead, _, writing = (
        _write(folder, 1, 10, complete=False),
        _write(folder, 1, 20),
        _write(folder, 1, 30, complete=False),
    )
    remove_old(folder, keep=1)
    assert not dead.exists()
    assert writing.exists()


def test_a_commit_of_what_is_not_there(folder: Place) -> None:
    """Such as a rank's file on another node's own disk."""
    place = checkpoint_place(folder, 1, 1).make_folder()
    with pytest.raises(OSError, match=r"rank 1 wrote 5 bytes, rank 0 finds none.*storage that all nodes share"):
        commit(place, STATE, [StoredFile("zero3/b.pt", 1, 5, "")])
    assert not (place / "state.json").exists()


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (CONTENT[:-1], "cut off: 11999 of 12000 bytes"),
        (b"S" + CONTENT[1:], "is damaged: its SHA-256"),
        (None, "missing"),
    ],
)
def test_damage_is_named(damaged: bytes | None, message: str, folder: Place) -> None:
    place = _write(folder, 1, 50)
    found = read_checkpoint(place)
    (place / "zero3/a.pt").remove()
    if damaged is not None:
        (place / "zero3/a.pt").write_bytes(damaged)
    with pytest.raises(Damaged, match=message) as error:
        fetch_file(found, found.files[0])
    assert "zero3/a.pt" in str(error.value)


def test_an_older_checkpoint_has_the_groups_of_deepspeed(folder: Place) -> None:
    """State of before it knew how many elements the optimizer's groups have."""
    place = _write(folder, 1, 50)
    content = json.loads((place / "state.json").read_text())
    del content["state"]["sub_group_size"]
    covered = json.dumps({key: content[key] for key in ("state", "files")}, sort_keys=True)
    content["sha256"] = hashlib.sha256(covered.encode()).hexdigest()
    (place / "state.json").write_text(json.dumps(content))
    assert read_checkpoint(place).state.sub_group_size == 1_000_000_000


def test_any_changed_value_of_the_state_is_noticed(folder: Place) -> None:
    place = _write(folder, 1, 50)
    content = json.loads((place / "state.json").read_text())
    content["state"]["step"] = 51
    (place / "state.json").write_text(json.dumps(content))
    found, damages = complete_checkpoints(folder)
    assert found == []
    assert len(damages) == 1
    assert "state.json is damaged" in damages[0]
