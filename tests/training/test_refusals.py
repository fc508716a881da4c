"""What DeepSpeed does not take of a user's settings is named by its key in the config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crlft_ray.config import Config, validate
from crlft_ray.errors import UserError
from crlft_ray.training.engine import deepspeed_config, import_deepspeed
from crlft_ray.training.refusals import check_settings, refusals_named
from tests.synthetic import raw_config


@pytest.fixture(autouse=True)
def _on_cpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as environment:
        environment.setenv("DS_ACCELERATOR", "cpu")
        yield


def _config(deepspeed: dict[str, Any]) -> Config:
    return validate(raw_config("model", "out", "data.jsonl", train={"deepspeed": deepspeed}), "test")


def _read(config: Config) -> None:
    import_deepspeed()
    check_settings(config, deepspeed_config(config))


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"zero_optimization": {"reduce_buket_size": 5}},
            ["train.deepspeed.zero_optimization.reduce_buket_size: DeepSpeed does not take it: unknown key (is 5)"],
        ),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu", "pin_memry": True}}},
            ["train.deepspeed.zero_optimization.offload_optimizer.pin_memry: DeepSpeed does not take it: unknown key"],
        ),
        # Of two sections with a key of one name it is the one with the wrong value.
        (
            {"fp16": {"enabled": False}, "bf16": {"enabled": "perhaps"}},
            ["train.deepspeed.bf16.enabled: DeepSpeed does not take it: ", "(is 'perhaps')"],
        ),
        (
            {"zero_optimization": {"stage": 7, "reduce_bucket_size": -1}},
            ["train.deepspeed.zero_optimization.stage: ", "; train.deepspeed.zero_optimization.reduce_bucket_size: "],
        ),
        ({"communication_data_type": "fp8"}, ["train.deepspeed: DeepSpeed does not take it: ValueError: ", "fp8"]),
        ({"communication_data_type": 8}, ["train.deepspeed: DeepSpeed does not take it: AttributeError: "]),
        ({"fp16": {"enabled": True}}, ["train.deepspeed: DeepSpeed does not take it: AssertionError: ", "fp16"]),
        (
            {"zero_optimisation": {"stage": 3}},
            ["train.deepspeed.zero_optimisation: DeepSpeed has no such setting; did you mean zero_optimization?"],
        ),
        ({"learned": True}, ["train.deepspeed.learned: DeepSpeed has no such setting"]),
        ({"train_batch_size": 7}, ["train.deepspeed: DeepSpeed does not take it: AssertionError: ", "batch"]),
    ],
)
def test_settings_that_it_does_not_take(settings: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(UserError) as error:
        _read(_config(settings))
    said = str(error.value)
    assert said.startswith("train.deepspeed")
    assert all(message in said for message in messages), said
    assert "\n" not in said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"zero_optimization": {"reduce_bucket_size": 5e7, "offload_optimizer": None}},
        {"wall_clock_breakdown": True, "memory_breakdown": True, "dump_state": False, "steps_per_print": 5},
        {"comms_logger": {"enabled": False}, "flops_profiler": {"enabled": False}, "aio": {}, "data_types": {}},
        {"activation_checkpointing": {}, "tensorboard": {"enabled": False}, "compile": {}, "torch_autocast": {}},
        {"communication_data_type": "fp32", "prescale_gradients": False, "checkpoint": {}, "timers": {}},
    ],
)
def test_settings_that_it_takes(settings: dict[str, Any]) -> None:
    _read(_config(settings))


def test_what_the_user_has_not_given_is_not_the_users_to_mend() -> None:
    with pytest.raises(AssertionError, match="ours"), refusals_named(_config({})):
        raise AssertionError("ours")


def test_what_a_machine_lacks_is_not_the_users_setting() -> None:
    with pytest.raises(RuntimeError, match="memory"), refusals_named(_config({"steps_per_print": 5})):
        raise RuntimeError("out of memory")
