"""Another number of workers: the same packs, the same curve, moments and settings survive."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from crlft_ray.config import load_config
from crlft_ray.training.train import Trained, train
from tests.faults import runs
from tests.faults.conftest import NewRun

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
    train(load_config(config, [f"train.workers={before}", f"train.max_steps={at}"]))
    with caplog.at_level(logging.INFO, "crlft_ray"):
        trained = train(load_config(config, [f"train.workers={after}"]))
    assert (trained.first_step, trained.steps) == (at, reference.steps)
    assert f"changed: train.workers {before} → {after}" in caplog.text
    ours, theirs = runs.curve(output), runs.curve(Path(reference.output))
    assert ours.keys() == theirs.keys()
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=RELATIVE), step
    for name in ("train/learned_tokens", "train/weight_share/expert", "train/lr"):
        # Which packs a step had: a pack twice or never would change them.
        assert runs.curve(output, name) == pytest.approx(runs.curve(Path(reference.output), name)), name
    assert runs.curve(output, "resume/gb_read")[at] > 0
