"""A damaged checkpoint is noticed, the previous one is used, and that is said."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crlft_ray.config import load_config
from crlft_ray.errors import UserError
from crlft_ray.training.train import train
from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _optimizer(checkpoint: Path, rank: int) -> Path:
    (found,) = checkpoint.glob(f"zero3/*rank_{rank}_*optim_states.pt")
    return found


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (lambda checkpoint: _cut(_optimizer(checkpoint, 0)), "is cut off"),
    "a rank's file missing": (lambda checkpoint: _optimizer(checkpoint, 1).unlink(), "is missing"),
    "a byte flipped": (lambda checkpoint: _flip(_optimizer(checkpoint, 1)), "is damaged"),
    "its state flipped": (lambda checkpoint: _flip(checkpoint / "state.json"), "state.json is damaged"),
}


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=[] if name == "a byte flipped" else pytest.mark.long) for name in DAMAGES]
)
def test_the_previous_one_is_used(
    damage: str, new_run: NewRun, finished: FinishedRun, caplog: pytest.LogCaptureFixture
) -> None:
    config, output = new_run()
    shutil.copytree(finished.output / "checkpoints", output / "checkpoints")
    newest = sorted((output / "checkpoints").glob("checkpoint_*/"))[-1]
    make, said = DAMAGES[damage]
    make(newest)
    with caplog.at_level(logging.INFO, "crlft_ray"):
        trained = train(load_config(config))
    assert (trained.first_step, trained.steps) == (finished.trained.steps // 2, finished.trained.steps)
    assert said in caplog.text
    assert newest.name in caplog.text
    assert runs.weights(output) == runs.weights(finished.output)


def test_none_can_be_used(new_run: NewRun, finished: FinishedRun) -> None:
    config, output = new_run()
    shutil.copytree(finished.output / "checkpoints", output / "checkpoints")
    for checkpoint in (output / "checkpoints").glob("checkpoint_*/"):
        _flip(_optimizer(checkpoint, 0))
    with pytest.raises(UserError, match=r"no checkpoint can be used.*--fresh"):
        train(load_config(config))
