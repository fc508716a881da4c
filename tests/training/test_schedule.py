"""Learning rate, steps, and which parameters decay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from crlft_ray.config import Config, validate
from crlft_ray.shards.manifest import ClassCounts, Manifest
from crlft_ray.training.schedule import lr_at, order_of, parameter_groups, peak_lr, planned_steps, weight_shares
from tests.synthetic import raw_config


def _config(**train: Any) -> Config:
    return validate(raw_config("model", "output", "source", train=train), "test")


def _manifest(packs: int, learned: tuple[int, int] = (600_000, 1_400_000)) -> Manifest:
    classes = [ClassCounts(name, "", 1, 2 * tokens, tokens, 0) for name, tokens in zip("ab", learned, strict=True)]
    return Manifest("f" * 64, {"pack_tokens": 512}, classes, {}, packs, 4_000_000, 1.0, [], [])


def test_warm_up_then_cosine() -> None:
    def rate(step: int) -> float:
        return lr_at(step, steps=100, peak=2.0, warmup=0.1, final=0.1)

    assert [rate(step) for step in range(10)] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rate(10) == 2.0
    assert rate(55) == pytest.approx(2.0 * (0.1 + 0.9 / 2)), "half way down"
    assert rate(100) == pytest.approx(0.2)
    falling = [rate(step) for step in range(10, 101)]
    assert falling == sorted(falling, reverse=True)


def test_extreme_schedules() -> None:
    assert lr_at(0, steps=1, peak=3.0, warmup=0.0, final=0.1) == 3.0
    assert lr_at(0, steps=1, peak=3.0, warmup=1.0, final=0.1) == 3.0
    assert lr_at(3, steps=4, peak=3.0, warmup=1.0, final=0.1) == 3.0
    assert [lr_at(step, steps=7, peak=3.0, warmup=0.0, final=1.0) for step in range(7)] == [3.0] * 7
    assert all(lr_at(step, steps=50, peak=1.0, warmup=0.05, final=0.0) > 0 for step in range(50))


def test_automatic_peak() -> None:
    """The original's rule: 3e-4 at four million supervised tokens a step, with the square root of their number."""
    assert peak_lr(_config(global_batch_tokens=4096), _manifest(packs=8)) == pytest.approx(3e-4 * math.sqrt(0.5))
    # Half of the packs a step, so half of the tokens.
    assert peak_lr(_config(global_batch_tokens=2048), _manifest(packs=8)) == pytest.approx(3e-4 * math.sqrt(0.25))
    assert peak_lr(_config(base_lr=1e-3, global_batch_tokens=4096), _manifest(packs=8)) == pytest.approx(
        1e-3 * math.sqrt(0.5)
    )
    # A step never has more packs than there are.
    assert peak_lr(_config(global_batch_tokens=8192), _manifest(packs=8)) == pytest.approx(3e-4 * math.sqrt(0.5))
    assert peak_lr(_config(lr=5e-5), _manifest(packs=8)) == 5e-5


def test_planned_steps() -> None:
    for epochs, most, planned in ((1, None, 3), (4, None, 12), (4, 5, 5), (1, 100, 3)):
        config = _config(epochs=epochs, max_steps=most, global_batch_tokens=2048)
        assert planned_steps(config, order_of(config, _manifest(packs=9))) == planned


def test_shares_of_the_loss() -> None:
    config = validate(
        raw_config("model", "output", "source", classes={"expert": {"weight": 2.0}, "mixed": {"weight": 0.5}}), "test"
    )
    names = [ClassCounts(name, "", 1, 1, tokens, 0) for name, tokens in (("expert", 100), ("mixed", 1200))]
    manifest = Manifest("f" * 64, {"pack_tokens": 512}, names, {}, 9, 1, 1.0, [], [])
    assert weight_shares(config, manifest) == pytest.approx({"expert": 0.25, "mixed": 0.75})


def test_norms_and_biases_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    decayed, plain = parameter_groups(model, 0.1)
    assert [decayed["weight_decay"], plain["weight_decay"]] == [0.1, 0.0]
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 4), (4, 4)]
    assert [tuple(p.shape) for p in plain["params"]] == [(4,)] * 3
    assert len(parameter_groups(torch.nn.Linear(2, 2, bias=False), 0.1)) == 1
