"""Another number of workers: the same packs, the same curve, moments and settings survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from crlft_ray.config import load_config
from crlft_ray.training.train import train
from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MID_EPOCH, END_OF_EPOCH = 5, 9


@pytest.mark.parametrize(
    ("before", "after", "at"),
    [
        pytest.param(before, after, at, marks=[] if (before, after, at) == (2, 1, MID_EPOCH) else pytest.mark.long)
        for before, after in ((2, 1), (1, 2), (2, 3), (4, 2))
        for at in (MID_EPOCH, END_OF_EPOCH)
    ],
)
def test_another_number_of_workers(
    before: int, after: int, at: int, new_run: NewRun, finished: FinishedRun, capfd: pytest.CaptureFixture[str]
) -> None:
    config, output = new_run()
    train(load_config(config, [f"train.workers={before}", f"train.max_steps={at}"]))
    trained = train(load_config(config, [f"train.workers={after}"]))
    assert (trained.first_step, trained.steps) == (at, finished.trained.steps)
    ours, theirs = runs.curve(output), runs.curve(finished.output)
    assert ours.keys() == theirs.keys()
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=1e-3), step
    for name in ("train/learned_tokens", "train/weight_share/expert", "train/lr"):
        # Which packs a step had: a pack twice or never would change them.
        assert runs.curve(output, name) == pytest.approx(runs.curve(finished.output, name)), name
    assert runs.curve(output, "resume/gb_read")[at] > 0
    assert not list(Path(output).glob("checkpoints/*/universal.part"))
