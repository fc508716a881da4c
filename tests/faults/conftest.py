"""A way to begin the finished run again in a folder of its own; the finished one is what it must end as."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import FinishedRun, write_config

NewRun = Callable[..., tuple[Path, Path]]
"""Of train settings; gives a config file and the output folder that it names, which holds shards."""


@pytest.fixture(scope="session")
def new_run(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> NewRun:
    """Makes a config file and an output folder with the finished run's shards: the same run, with checkpoints every 3
    of its 18 steps; `train` settings are merged."""

    def make(output: Path | str | None = None, **train: Any) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("run")
        place = Path(output) if output else folder / "run"
        shutil.copytree(finished.output / "shards", place / "shards")
        raw = finished.config.model_dump(mode="json", by_alias=True)
        raw |= {"output": str(place), "train": {**raw["train"], "checkpoint_every": 3, **train}, "evaluate": {}}
        return write_config(folder / "config.yaml", raw), place

    return make
