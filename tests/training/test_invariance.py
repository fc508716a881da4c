"""The loss and gradient of a global batch do not depend on how its packs are split over ranks and micro-batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.gradients import measure, packs, plain_reference, write_model
from tests.training.ranks import run_ranks

pytestmark = pytest.mark.slow

Measured = dict[tuple[int, bool, str, bool], dict[str, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    return {tied: write_model(tmp_path_factory.mktemp(f"tied-{tied}"), tied=tied) for tied in (True, False)}


@pytest.fixture(scope="module")
def measured(models: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """By (ranks, tied, precision, every conversation in a pack of its own)."""
    folder = tmp_path_factory.mktemp("ranks")
    found: Measured = {}
    for world_size in (1, 2, 4):
        keys = [
            (tied, precision, parts) for tied in models for precision in ("fp32", "bf16") for parts in (False, True)
        ]
        variants = [(str(models[tied]), precision, parts) for tied, precision, parts in keys]
        results = folder / f"{world_size}.json"
        run_ranks(world_size, folder, measure, variants, str(results))
        for key, result in zip(keys, json.loads(results.read_text()), strict=True):
            found[(world_size, key[0], key[1], key[2])] = result
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_fp32_equals_a_plain_fp64_loop(tied: bool, models: dict[bool, Path], measured: Measured) -> None:
    loss, norms = plain_reference(models[tied])
    assert min(norms.values()) > 1e-4
    for (_, of_tied, precision, _), result in measured.items():
        if of_tied == tied and precision == "fp32":
            assert result["loss"] == pytest.approx(loss, rel=1e-6)
            assert result["norms"] == pytest.approx(norms, rel=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_splits_agree_in_fp32(tied: bool, measured: Measured) -> None:
    """Over ranks, micro-batches, and even other packs of the same conversations."""
    results = [r for (_, of_tied, precision, _), r in measured.items() if of_tied == tied and precision == "fp32"]
    assert len(results) == 6
    _assert_alike(results, 1e-6)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_splits_agree_in_bf16(tied: bool, parts: bool, measured: Measured) -> None:
    """Over ranks and micro-batches; a micro-batch's own gradient is rounded to bf16, so the packs must be the same."""
    results = [measured[(world_size, tied, "bf16", parts)] for world_size in (1, 2, 4)]
    _assert_alike(results, 1e-4)


def _assert_alike(results: list[dict[str, Any]], bound: float) -> None:
    for result in results[1:]:
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=bound)
        assert result["norms"] == pytest.approx(results[0]["norms"], rel=bound)


def test_the_batch_is_a_hard_case() -> None:
    """Uneven over ranks, of all classes, with packs of several conversations."""
    batch = packs()
    assert len(batch) % 2 == 1
    assert len(batch) % 4
    assert {int(c) for pack in batch for c in pack.classes_C} == {0, 1, 2}
    assert max(len(pack.lengths_C) for pack in batch) > 1
