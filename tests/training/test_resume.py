"""A run that was stopped goes on from its checkpoint as if nothing had been."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from crlft_ray.config import Config, validate
from crlft_ray.errors import UserError
from crlft_ray.shards.prepare import prepare
from crlft_ray.training.train import Trained, train
from tests.runs import FinishedRun
from tests.tracking.server import points

pytestmark = pytest.mark.slow

STOPPED_AT = 5
"""In the middle of the first epoch."""


@pytest.fixture(scope="module")
def parts(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Trained]:
    """The same run in two parts: up to a step, and, called again, from there to the end; in a relative folder."""
    raw = finished.config.model_dump(mode="json", by_alias=True)
    raw["output"] = "run"
    with _inside(tmp_path_factory.mktemp("resumed")):
        prepare(validate(raw, "test"))
        return train(_stopped(raw)), train(validate(raw, "test"))


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _stopped(raw: dict[str, Any]) -> Config:
    return validate({**raw, "train": {**raw["train"], "max_steps": STOPPED_AT}}, "test")


def test_it_goes_on_from_the_checkpoint(parts: tuple[Trained, Trained], finished: FinishedRun) -> None:
    first, second = parts
    assert (first.first_step, first.steps) == (0, STOPPED_AT)
    assert (second.first_step, second.steps) == (STOPPED_AT, finished.trained.steps)
    assert second.packs_consumed == finished.trained.packs_consumed
    assert first.fingerprint == second.fingerprint == finished.trained.fingerprint


def test_it_stays_the_same_run_in_mlflow(parts: tuple[Trained, Trained]) -> None:
    first, second = parts
    assert first.mlflow_run_id == second.mlflow_run_id
    client = MlflowClient(second.tracking_uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "crlft"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["changed.train.max_steps"] == f"{STOPPED_AT} → null"


def test_every_step_learns_what_it_would_have(parts: tuple[Trained, Trained], finished: FinishedRun) -> None:
    """To the last bit: the same packs from the same weights with the same moments."""
    _, second = parts
    for name in ("train/loss", "train/grad_norm", "train/learned_tokens", "train/loss/expert"):
        resumed = points(second.tracking_uri, str(second.mlflow_run_id), name)
        assert resumed == points(finished.trained.tracking_uri, str(finished.trained.mlflow_run_id), name), name


def test_the_final_weights_are_the_same(parts: tuple[Trained, Trained], finished: FinishedRun) -> None:
    _, second = parts
    exports = [Path(export) / "model.safetensors" for export in (second.export, finished.trained.export)]
    assert exports[0].read_bytes() == exports[1].read_bytes()
    ours, theirs = _masters(Path(second.output)), _masters(finished.output)
    assert len(ours) == len(theirs) >= 4
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_fresh_starts_over(finished: FinishedRun, tmp_path: Path) -> None:
    """Also where the folder holds a run that this config does not continue; the shards stay."""
    output = tmp_path / "run"
    for name in ("shards", "checkpoints", "tracking"):
        shutil.copytree(finished.output / name, output / name)
    shutil.copy(finished.output / "config.yaml", output)
    raw = finished.config.model_dump(mode="json", by_alias=True)
    raw |= {"output": str(output), "train": {**raw["train"], "seed": 1, "max_steps": 2}}
    config = validate(raw, "test")
    with pytest.raises(UserError, match=r"train.seed is 0, this config's 1.*--fresh"):
        train(config)
    shards = (output / "shards" / "manifest.json").stat().st_mtime_ns
    trained = train(config, fresh=True)
    assert (trained.first_step, trained.steps) == (0, 2)
    assert trained.mlflow_run_id != finished.trained.mlflow_run_id
    assert (output / "shards" / "manifest.json").stat().st_mtime_ns == shards
    assert len(list((output / "checkpoints").glob("checkpoint_*/"))) == 1


def _masters(output: Path) -> list[torch.Tensor]:
    """The fp32 weights and both moments of every rank in the newest checkpoint."""
    newest = sorted((output / "checkpoints").glob("checkpoint_*/"))[-1]
    found: list[torch.Tensor] = []
    for file in sorted(newest.glob("zero3/*optim_states.pt")):
        state = torch.load(file, weights_only=False)["optimizer_state_dict"]
        found += state["fp32_flat_groups"]
        moments = state["optimizer_state_dict"]["state"].values()
        found += [moment[name] for moment in moments for name in ("exp_avg", "exp_avg_sq")]
    return found
