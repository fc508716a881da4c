"""SIGKILL at known places: the run ends with the very bits that it would have had, and each step is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.faults]

PLACES = {
    "in a step": {"place": "step", "call": 5},
    "during a checkpoint": {"place": "checkpoint", "call": 3},
    "during its upload": {"place": "upload", "call": 40},
    "at start": {"place": "start", "call": 1},
}
VICTIMS = {"a rank": {"victim": "rank", "rank": 1}, "rank 0": {"victim": "rank", "rank": 0}}
QUICK = {("rank 0", "during its upload")}


def _same_as(output: Path, other: Path) -> None:
    assert runs.weights(output) == runs.weights(other)
    assert runs.curve(output) == runs.curve(other)


@pytest.mark.parametrize(
    ("victim", "place"),
    [
        pytest.param(victim, place, marks=[] if (victim, place) in QUICK else pytest.mark.long)
        for victim in VICTIMS
        for place in PLACES
    ],
)
def test_a_killed_rank(victim: str, place: str, new_run: NewRun, finished: FinishedRun) -> None:
    config, output = new_run()
    ended = runs.train(config, fault={**VICTIMS[victim], **PLACES[place]})
    assert ended.code == 0, ended.said
    _same_as(output, finished.output)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_a_killed_driver(place: str, new_run: NewRun, finished: FinishedRun) -> None:
    config, output = new_run()
    first = runs.train(config, fault={"victim": "driver", **PLACES[place]})
    assert first.code == -9
    second = runs.train(config)
    assert second.code == 0, second.said
    _same_as(output, finished.output)
