"""A run that cannot go on ends with exit code 1, says why, and leaves no result behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from tests.cli.command import crlft
from tests.runs import FinishedRun, write_config
from tests.tracking.server import points

pytestmark = pytest.mark.slow


def test_ten_steps_without_a_finite_gradient(finished: FinishedRun, tiny_model: Path, tmp_path: Path) -> None:
    """A model with an infinite weight: every step is skipped and counted, until the run gives up."""
    model, output = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = torch.inf
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    shutil.copytree(finished.output / "shards", output / "shards")
    raw = finished.config.model_dump(mode="json", by_alias=True)
    train = {**raw["train"], "workers": 1, "checkpoint_every": 3}
    config = write_config(
        tmp_path / "c.yaml", {**raw, "model": str(model), "output": str(output), "train": train, "evaluate": {}}
    )
    outcome = crlft("train", config)
    assert outcome.code == 1, outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("crlft: steps 1 to 10 had no finite loss or gradient; lower train.lr")
    assert "Traceback" not in outcome.err
    assert not (output / "result.json").exists()
    assert not (output / "export").exists()
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("crlft")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    skipped = points(f"sqlite:///{output / 'mlflow.db'}", run.info.run_id, "train/skipped_not_finite")
    assert skipped == {step: float(step) for step in range(1, 11)}
    # What was learned until then is kept, with its progress.
    assert len(list((output / "checkpoints").glob("checkpoint_*/state.json"))) == 2
