"""The search space is checked before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.errors import UserError
from crlft_ray.tuning.space import Domain, parse_space, with_values
from tests.synthetic import raw_config


def _config(space: dict[str, str], **tune: Any) -> Any:
    raw = raw_config("model", "output", "conversations.jsonl", tune={"space": space, "searcher": "random", **tune})
    return validate(raw, "test")


def test_every_kind_is_read() -> None:
    space = {
        "classes.mixed.weight": "loguniform(0.003, 1)",
        "train.weight_decay": " uniform( 0, 0.2 ) ",
        "train.epochs": "choice(1, 2, 3)",
        "train.precision": "choice(bf16, fp32)",
        "train.per_sequence": "choice(true, false)",
    }
    assert parse_space(_config(space)) == {
        "classes.mixed.weight": Domain("loguniform", (0.003, 1.0)),
        "train.weight_decay": Domain("uniform", (0.0, 0.2)),
        "train.epochs": Domain("choice", (1, 2, 3)),
        "train.precision": Domain("choice", ("bf16", "fp32")),
        "train.per_sequence": Domain("choice", (True, False)),
    }


def test_settings_of_deepspeed_and_resources_need_not_be_there_before() -> None:
    space = {
        "train.deepspeed.zero_optimization.reduce_bucket_size": "choice(100000, 1000000)",
        "train.resources_per_worker.memory": "choice(1, 2)",
    }
    assert list(parse_space(_config(space))) == list(space)


def test_a_trial_has_its_values() -> None:
    config = with_values(_config({}), {"classes.mixed.weight": 0.25, "train.epochs": 3})
    assert config.classes["mixed"].weight == 0.25
    assert config.train.epochs == 3


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "tune.space: is empty"),
        (
            {"classes.mixed.weight": "normal(0, 1)"},
            "tune.space.classes.mixed.weight: 'normal(0, 1)' must be loguniform",
        ),
        ({"classes.mixed.weight": "0.1"}, "must be loguniform(low, high), uniform(low, high)"),
        ({"classes.mixed.weight": "loguniform(0, 1)"}, "must be above 0, because the scale is logarithmic"),
        ({"classes.mixed.weight": "uniform(1, 0.5)"}, "the lowest value must be less than the highest"),
        ({"classes.mixed.weight": "uniform(1)"}, "needs two numbers"),
        ({"classes.mixed.weight": "choice()"}, "has no values"),
        ({"classes.mixed.weight": "choice([)"}, "cannot be read"),
        ({"classes.mixed.weight": "uniform(-1, 1)"}, "tune.space.classes.mixed.weight: classes.mixed.weight: must be"),
        ({"classes.better.weight": "uniform(0, 1)"}, "the config has no key 'classes.better.weight'"),
        ({"train.learning_rate": "uniform(0, 1)"}, "the config has no key 'train.learning_rate'"),
        ({"train.epochs": "uniform(1, 3)"}, "tune.space.train.epochs: train.epochs: must be a valid integer"),
        ({"data.context": "choice(16, 32)"}, "cannot be searched: a study uses one set of shards"),
        ({"classes.mixed.condition": "choice(a, b)"}, "conditions are in the shards' tokens"),
        ({"beta": "uniform(0.1, 1)"}, "tune.space.beta: beta: has no effect without rewards"),
        ({"classes.mixed.weight": "grid(0, 1)"}, "grid(…) goes with tune.searcher: grid"),
    ],
)
def test_what_is_wrong_is_said(space: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_space(_config(space))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_has_as_many_trials_as_points() -> None:
    space = {"classes.mixed.weight": "grid(0, 0.1, 1)", "train.epochs": "grid(1, 2)"}
    assert len(parse_space(_config(space, searcher="grid", budget={"trials": 6}))) == 2
    with pytest.raises(UserError, match=r"tune.budget.trials: is 8, but the grid has 6 points"):
        parse_space(_config(space, searcher="grid"))
    with pytest.raises(UserError, match=r"train.epochs: must be grid\(…\)"):
        parse_space(_config({**space, "train.epochs": "choice(1, 2)"}, searcher="grid"))
