"""A run without faults to compare with, and a way to begin the same run in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.shards.prepare import prepare
from tests.faults import runs
from tests.runs import run_config, write_config, write_learnable

NewRun = Callable[..., tuple[Path, Path]]
"""Of train settings; gives a config file and the output folder that it names, which holds shards."""


@pytest.fixture(scope="session")
def prepared(ray_session: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The raw config of a run whose shards are there: 2 workers, 2 epochs of 9 steps, a checkpoint every 3."""
    folder = tmp_path_factory.mktemp("faults")
    source = write_learnable(folder / "conversations.jsonl")
    raw = run_config(tiny_model, folder / "prepared", source, train={"checkpoint_every": 3})
    prepare(validate(raw, "test"))
    return raw


@pytest.fixture(scope="session")
def new_run(prepared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> NewRun:
    """Makes a config file and an output folder with the same shards; `train` settings are merged."""

    def make(output: Path | str | None = None, **train: Any) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("run")
        place = Path(output) if output else folder / "run"
        shutil.copytree(Path(prepared["output"]) / "shards", place / "shards")
        raw = {**prepared, "output": str(place), "train": {**prepared["train"], **train}}
        return write_config(folder / "config.yaml", raw), place

    return make


@pytest.fixture(scope="session")
def undisturbed(new_run: NewRun) -> Path:
    """Output of the run without faults."""
    config, output = new_run()
    ended = runs.train(config)
    assert ended.code == 0, ended.said
    return output
