"""What becomes of what earlier starts left in an output folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.checkpoints.state import RunState
from crlft_ray.config import Config, validate
from crlft_ray.tracking import Record, read_records
from crlft_ray.tracking.spool import Spool
from crlft_ray.training.earlier import forget_repeated, start_over
from crlft_ray.training.tracked import tracking_folder
from tests.synthetic import raw_config

STATE = RunState(3, 12, 2, "f", "t", {}, 1000, 0, "run", 0, 0, None, {})


def _config(output: Path, **sections: Any) -> Config:
    return validate(raw_config("model", output, "data.jsonl", **sections), "test")


def _measured(config: Config, steps: int) -> None:
    spool = Spool(tracking_folder(config) / "metrics.jsonl")
    for step in range(steps + 1):
        spool.append(Record(step, step, {"train/loss": 2.0}))
    spool.close()


def _steps(config: Config) -> list[int]:
    return [record.step for record in read_records(tracking_folder(config) / "metrics.jsonl")]


@pytest.mark.parametrize(("state", "left"), [(None, 1), (STATE, 4), (replace(STATE, step=5), 6)])
@pytest.mark.parametrize("change", [{"train": {"lr": 1.0e-3}}, {"evaluate": {"heldout": 7}}])
def test_steps_that_are_repeated_in_another_way_are_measured_anew(
    state: RunState | None, left: int, change: dict[str, Any], tmp_path: Path
) -> None:
    """From the checkpoint on, whatever config it was written with; from the beginning where there is none."""
    before, now = _config(tmp_path), _config(tmp_path, **change)
    _measured(before, 5)
    forget_repeated(now, before, state)
    assert _steps(now) == list(range(6))[:left]


@pytest.mark.parametrize("state", [None, STATE])
def test_steps_that_are_repeated_as_they_were_keep_their_values(state: RunState | None, tmp_path: Path) -> None:
    config = _config(tmp_path)
    _measured(config, 5)
    forget_repeated(_config(tmp_path), config, state)
    # Of a folder that was never given a config, or a fresh start.
    forget_repeated(_config(tmp_path, train={"lr": 1.0e-3}), None, state)
    assert _steps(config) == list(range(6))


def test_nothing_was_measured_yet(tmp_path: Path) -> None:
    forget_repeated(_config(tmp_path, train={"lr": 1.0e-3}), _config(tmp_path), None)
    assert list(tmp_path.iterdir()) == []


def test_starting_over_leaves_the_shards_and_what_is_known_of_them(tmp_path: Path) -> None:
    kept = ["shards/manifest.json", "tracking/verified.json", "mlflow.db"]
    gone = ["checkpoints/a/state.json", "export/config.json", "config.yaml", "result.json", "evaluation/report.html",
            "tracking/metrics.jsonl", "tracking/curves/loss.png"]  # fmt: skip
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    start_over(_config(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_starting_over_where_nothing_is(tmp_path: Path) -> None:
    start_over(_config(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
