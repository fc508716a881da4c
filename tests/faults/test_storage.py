"""Storage that fails stops checkpointing, loudly, and not the training."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crlft_ray.checkpoints.folder import complete_checkpoints, fetch_file
from crlft_ray.config import load_config
from crlft_ray.storage import Place
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.training.train import train
from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.object_store import ObjectStore
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def small_disk(tmp_path: Path, finished: FinishedRun) -> Iterator[Path]:
    """A file system with room for one checkpoint and a half."""
    (checkpoint, *_), _ = complete_checkpoints(Place.of(finished.output / "checkpoints"))
    disk = tmp_path / "run" / "checkpoints"
    disk.mkdir(parents=True)
    size = checkpoint.bytes * 3 // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk(
    small_disk: Path, new_run: NewRun, finished: FinishedRun, caplog: pytest.LogCaptureFixture
) -> None:
    config, output = new_run(small_disk.parent, checkpoint_every=6)
    with caplog.at_level(logging.INFO, "crlft_ray"):
        trained = train(load_config(config))
    assert trained.steps == finished.trained.steps
    assert runs.weights(output) == runs.weights(finished.output)
    assert "WARNING: no checkpoint after step 9: rank" in caplog.text
    assert "No space left" in caplog.text
    assert trained.metrics["checkpoint/failed"] >= 1
    (valid, *others), damages = complete_checkpoints(Place.of(small_disk))
    assert (valid.state.step, others, damages) == (6, [], [])
    for file in valid.files:
        fetch_file(valid, file)
    leftovers = {path.name for path in small_disk.iterdir() if path.name.startswith("checkpoint_")}
    assert leftovers == {valid.place.name}


@pytest.mark.long
def test_an_object_store_that_is_away(
    object_store: ObjectStore, new_run: NewRun, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    config, shards = new_run(checkpoint_every=1, epochs=20)
    output = object_store.uri("runs/away")
    Place.of(output).copy_from_local(shards)
    changed = load_config(config, [f"output={output}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"])
    done = threading.Event()
    helper = threading.Thread(target=_away_for_a_checkpoint, args=(object_store, tracking_folder(changed), done))
    helper.start()
    try:
        with caplog.at_level(logging.INFO, "crlft_ray"):
            trained = train(changed)
    finally:
        done.set()
        helper.join()
        object_store.go_on()
    assert "WARNING: no checkpoint after step" in caplog.text
    assert trained.metrics["checkpoint/failed"] >= 1
    (newest, *_), damages = complete_checkpoints(Place.of(output) / "checkpoints")
    assert (newest.state.step, damages) == (trained.steps, [])
    for file in newest.files:
        fetch_file(newest, file)
    assert (Place.of(output) / "export" / "model.safetensors").exists()


def _away_for_a_checkpoint(store: ObjectStore, tracking: Path, done: threading.Event) -> None:
    """The store answers nobody from a step on until a checkpoint has failed."""

    def seen(text: str) -> bool:
        spool = tracking / "metrics.jsonl"
        return spool.exists() and any(text in line for line in spool.read_text().splitlines())

    while not seen('"checkpoint/write_s"') and not done.wait(0.01):
        pass
    store.pause()
    while not seen('"checkpoint/failed": 1.0') and not done.wait(0.05):
        pass
    store.go_on()
