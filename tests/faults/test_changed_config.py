"""A run that is killed and goes on with another config: every step's metrics are those of the training that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from crlft_ray.tracking import read_records
from tests.faults import runs
from tests.faults.conftest import NewRun

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]

STEPS = 18


def _killed(config: Path, output: Path, *, lr: float, call: int) -> None:
    """Trains until the driver is killed in rank 0's micro-batch of that number, which is in a later step."""
    config.with_name("struck").unlink(missing_ok=True)
    fault = {"victim": "driver", "place": "step", "call": call}
    assert runs.train(config, "--set", f"train.lr={lr}", fault=fault).code == -9
    assert runs.steps_seen(output) > 0


def _rates(output: Path) -> dict[int, float]:
    records = read_records(output / "tracking" / "metrics.jsonl")
    return {record.step: record.metrics["train/lr"] for record in records if "train/lr" in record.metrics}


def test_before_the_first_checkpoint(new_run: NewRun) -> None:
    config, output = new_run(checkpoint_every=50)
    _killed(config, output, lr=0.03, call=7)
    ended = runs.train(config, "--set", "train.lr=0.01")
    assert ended.code == 0, ended.said
    assert _rates(output) == dict.fromkeys(range(1, STEPS + 1), 0.01)


def test_with_another_config_in_between(new_run: NewRun) -> None:
    """The checkpoint's config is that of the last start, but the steps after it were taken with the other one."""
    config, output = new_run()
    _killed(config, output, lr=0.03, call=9)
    _killed(config, output, lr=0.01, call=5)
    ended = runs.train(config, "--set", "train.lr=0.03")
    assert ended.code == 0, ended.said
    assert _rates(output) == dict.fromkeys(range(1, STEPS + 1), 0.03)
