"""`train.precision: auto` is decided once, by the run that is continued or by what its workers compute on."""

from __future__ import annotations

from typing import Any

import pytest

from crlft_ray.config import Config, validate
from crlft_ray.device import with_precision
from tests.synthetic import raw_config


def _config(**train: Any) -> Config:
    return validate(raw_config("model", "out", "source", train=train), "test")


def _decided(config: Config, earlier: Config | None = None) -> str:
    return with_precision(config, earlier).train.precision


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_is_said_stays(asked: str) -> None:
    assert _decided(_config(precision=asked), _config(precision="fp32")) == asked


@pytest.mark.parametrize("began", ["bf16", "fp32"])
def test_a_run_goes_on_as_it_began(began: str) -> None:
    assert _decided(_config(precision="auto"), _config(precision=began)) == began


def test_gpus_take_bf16() -> None:
    assert _decided(_config(precision="auto", resources_per_worker={"GPU": 1})) == "bf16"


@pytest.mark.parametrize(("multiplies", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_cpus_take_what_they_are_fast_in(multiplies: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: multiplies)
    assert _decided(_config(precision="auto")) == chosen


def test_it_is_the_default() -> None:
    raw = raw_config("model", "out", "source")
    del raw["train"]["precision"]
    assert validate(raw, "test").train.precision == "auto"
