"""Steps that must not change the weights do not, are counted as such on every rank, and harm nothing after them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.training.gradients import write_model
from tests.training.ranks import run_ranks
from tests.training.stepping import take_steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stepping")
    model = write_model(folder / "model", tied=True)
    run_ranks(2, folder, take_steps, str(model), str(folder / "seen"))
    return [json.loads((folder / f"seen.{rank}").read_text()) for rank in range(2)]


@pytest.fixture(params=["fp32", "bf16"])
def ranks(request: pytest.FixtureRequest, measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each of two ranks saw."""
    return [rank[request.param] for rank in measured]


def test_which_steps_are_skipped(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert [step["skipped"] for step in rank["steps"]] == ["", "no weight", "not finite", "no weight", "", ""]


def test_a_skipped_step_changes_no_weight(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        weights = [step["weights"] for step in rank["steps"]]
        assert weights[0] == weights[1] == weights[2] == weights[3]
        assert len({weights[0], weights[4], weights[5]}) == 3


def test_a_step_after_a_broken_one_is_clean(ranks: list[dict[str, Any]]) -> None:
    """No gradient of the broken step is left over."""
    steps = ranks[0]["steps"]
    for step in (steps[0], steps[4], steps[5]):
        assert math.isfinite(step["loss"])
        assert 0 < step["grad_norm"] < 100
    assert steps[4]["loss"] < steps[0]["loss"], "the same packs again, one step later"


def test_what_a_step_without_weight_reports(ranks: list[dict[str, Any]]) -> None:
    step = ranks[0]["steps"][1]
    assert step["loss"] == step["grad_norm"] == 0
    assert step["weight_shares"] == [0, 0, 0]
    assert step["learned_tokens"] == ranks[0]["steps"][0]["learned_tokens"]
    assert all(math.isnan(loss) for loss in step["class_losses"])


def test_both_ranks_report_the_same(ranks: list[dict[str, Any]]) -> None:
    first, second = ([{**s, "weights": ""} for s in rank["steps"]] for rank in ranks)
    # NaN is not equal to itself; as text it is.
    assert json.dumps(first) == json.dumps(second)


def test_partitioned_norms_do_not_decay(ranks: list[dict[str, Any]]) -> None:
    (decay, decayed), (none, plain) = ranks[0]["groups"]
    assert (decay, none) == (0.1, 0.0)
    assert all("norm" in name for name in plain)
    assert len(plain) == 2 * 2 + 1
    assert not any("norm" in name for name in decayed)
    assert len(decayed) == 2 * 7 + 1
