"""Another number of workers, or another layout: the same packs, the same curve, moments and settings survive."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import Config, load_config
from crlft_ray.storage import Place
from crlft_ray.training.train import Trained, train
from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.object_store import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MID_EPOCH, END_OF_EPOCH = 5, 9
RELATIVE = 1e-5
"""The bar is 1e-3; this is near enough to notice a wrong weight decay, step count or moment."""


@pytest.fixture(scope="module")
def reference(new_run: NewRun) -> Trained:
    """The uninterrupted run, in fp32: bf16's rounding makes two uninterrupted runs on 2 and 3 workers differ by more
    than any fault of resuming would."""
    config, _ = new_run(precision="fp32")
    return train(load_config(config))


@pytest.mark.parametrize(
    ("before", "after", "at"),
    [
        pytest.param(before, after, at, marks=[] if (before, after, at) == (2, 1, MID_EPOCH) else pytest.mark.long)
        for before, after in ((2, 1), (1, 2), (2, 3), (4, 2))
        for at in (MID_EPOCH, END_OF_EPOCH)
    ],
)
def test_another_number_of_workers(
    before: int, after: int, at: int, new_run: NewRun, reference: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    config, output = new_run(precision="fp32")
    trained = _train_in_two(load_config(config), before, after, at, caplog)
    _check(trained, output, at, reference)


def test_another_number_of_workers_on_an_object_store(
    new_run: NewRun, reference: Trained, object_store: ObjectStore, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The workers of a node read one copy of the checkpoint, and leave nothing on its disk."""
    monkeypatch.chdir(tmp_path)
    before = _scratch_folders()
    config, shards = new_run(precision="fp32")
    output = object_store.uri("runs/other-world")
    Place.of(output).copy_from_local(shards)
    remote = load_config(config, [f"output={output}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"])
    trained = _train_in_two(remote, 2, 3, MID_EPOCH, caplog)
    _check(trained, tmp_path, MID_EPOCH, reference)
    assert _scratch_folders() <= before


def test_other_groups_of_the_optimizer(new_run: NewRun, reference: Trained) -> None:
    """As many workers, but groups of another size: so are checkpoints of before the present default."""
    config, output = new_run(precision="fp32")
    groups = {"zero_optimization": {"sub_group_size": 2_000}}
    train(_with(load_config(config), max_steps=MID_EPOCH, deepspeed=groups))
    _check(train(load_config(config)), output, MID_EPOCH, reference)


def _train_in_two(config: Config, before: int, after: int, at: int, caplog: pytest.LogCaptureFixture) -> Trained:
    """Up to a step with one number of workers, then to the end with another one."""
    train(_with(config, workers=before, max_steps=at))
    with caplog.at_level(logging.INFO, "crlft_ray"):
        trained = train(_with(config, workers=after))
    assert f"changed: train.workers {before} → {after}" in caplog.text
    return trained


def _with(config: Config, **settings: Any) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def _check(trained: Trained, folder: Path, at: int, reference: Trained) -> None:
    """It went on where it should, and the curves in the folder's mlflow.db are those of the uninterrupted run."""
    assert (trained.first_step, trained.steps) == (at, reference.steps)
    ours, theirs = runs.curve(folder), runs.curve(Path(reference.output))
    assert list(ours) == list(theirs) == list(range(1, reference.steps + 1))
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=RELATIVE), step
    for name in ("train/learned_tokens", "train/weight_share/expert", "train/lr"):
        # Which packs a step had: a pack twice or never would change them.
        assert runs.curve(folder, name) == pytest.approx(runs.curve(Path(reference.output), name)), name
    assert runs.curve(folder, "resume/gb_read")[at] > 0


def _scratch_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("crlft-scratch-*"))
