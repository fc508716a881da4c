"""Another number of workers: the same packs, the same curve, moments and settings survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import NewRun

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
def test_another_number_of_workers(before: int, after: int, at: int, new_run: NewRun, undisturbed: Path) -> None:
    config, output = new_run()
    first = runs.train(config, "--set", f"train.workers={before}", "--set", f"train.max_steps={at}")
    assert first.code == 0, first.said
    second = runs.train(config, "--set", f"train.workers={after}")
    assert second.code == 0, second.said
    assert f"going on from step {at}" in second.said
    ours, theirs = runs.curve(output), runs.curve(undisturbed)
    assert ours.keys() == theirs.keys()
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=1e-3), step
    for name in ("train/learned_tokens", "train/weight_share/expert"):
        # Which packs a step had; a pack twice or never would change them.
        assert runs.curve(output, name) == pytest.approx(runs.curve(undisturbed, name))
