"""A plan says what ranks of our real engine hold and send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import Config
from crlft_ray.planning.plan_of import Plan, plan
from crlft_ray.planning.zero import zero_settings
from tests.planning.engines import Case, measure
from tests.training.ranks import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.long]

WORLDS = (1, 2, 4)
CASES = {
    # Gathered once a micro-batch, because DeepSpeed keeps what is needed again soon.
    "tied": Case(True, layers=3, width=128, precision="bf16", checkpointing=False, zero={}),
    # As a large model is: part of it is gathered anew for the backward pass, because DeepSpeed looks a little ahead.
    "untied": Case(
        False,
        layers=6,
        width=160,
        precision="fp32",
        checkpointing=True,
        zero={"stage3_max_reuse_distance": 300_000, "stage3_prefetch_bucket_size": 50_000},
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: str(case.write(tmp_path_factory.mktemp(name))) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def measured(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    """What every rank saw, by case and number of ranks."""
    folder = tmp_path_factory.mktemp("engines")
    found = {}
    for world in WORLDS:
        results = folder / str(world)
        run_ranks(world, folder, measure, [(case, models[name]) for name, case in CASES.items()], str(results))
        ranks = [json.loads(Path(f"{results}.{rank}").read_text()) for rank in range(world)]
        for number, name in enumerate(CASES):
            found[name, world] = [rank[number] for rank in ranks]
    return found


@pytest.fixture(params=[(name, world) for name in CASES for world in WORLDS], ids=str)
def both(
    request: pytest.FixtureRequest, models: dict[str, str], measured: dict[tuple[str, int], Any]
) -> tuple[Plan, Config, list[dict[str, float]]]:
    """The plan, its config, and what the ranks saw."""
    name, world = request.param
    config = CASES[name].config(models[name])
    return plan(config, nodes=1, gpus=world, gpu="a100-80g"), config, measured[name, world]


def test_memory(both: tuple[Plan, Config, list[dict[str, float]]]) -> None:
    planned, config, ranks = both
    always = planned.memory.always
    for rank in ranks:
        assert always["parameters"].value == pytest.approx(rank["parameters"], rel=0.01)
        assert always["gradients"].value == pytest.approx(rank["gradients"], rel=0.01)
        assert always["optimizer state"].value == pytest.approx(rank["optimizer"], rel=0.01)
        zero = zero_settings(config)
        assert zero.reduce_bucket * zero.reduce_bytes == rank["bucket"]
        if len(ranks) > 1:
            assert 0 < always["small parameters"].value == rank["whole"]


def test_communication(both: tuple[Plan, Config, list[dict[str, float]]]) -> None:
    planned, _, ranks = both
    sent = planned.communication
    for rank in ranks:
        assert sent["gathering parameters"].value == pytest.approx(rank["gathered"], rel=0.01)
        assert sent["reducing gradients"].value == pytest.approx(rank["reduced"], rel=0.01)
        # What no plan counts: sums of losses and norms.
        assert rank["other"] <= 0.001 * (rank["gathered"] + rank["reduced"])
    assert (len(ranks) == 1) == (sum(figure.value for figure in sent.values()) == 0)


def test_checkpoints(both: tuple[Plan, Config, list[dict[str, float]]]) -> None:
    planned, _, ranks = both
    written = sum(rank["snapshot"] for rank in ranks)
    assert planned.checkpoint["size"].value == pytest.approx(written, rel=0.01)
    assert planned.memory.host["copy for checkpoints"].value == pytest.approx(written, rel=0.01)


def test_the_cases_differ_in_how_often_they_gather(measured: dict[tuple[str, int], Any]) -> None:
    """In elements of what is reduced, which is every parameter once: so the rules of reuse are put to the test."""
    bytes_of = {"fp32": 4, "bf16": 2}
    often = {
        name: (measured[name, 2][0]["gathered"] / bytes_of[case.precision]) / (measured[name, 2][0]["reduced"] / 4)
        for name, case in CASES.items()
    }
    assert often["tied"] < 1 < often["untied"]
