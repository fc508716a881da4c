"""`crlft run` on a run that is trained already: what is done stays, the rest is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from crlft_ray import pipeline
from crlft_ray.pipeline import sample
from tests.cli.command import Outcome, crlft
from tests.runs import FinishedRun, write_config
from tests.tracking.server import points

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("again")
    for name in ("shards", "checkpoints"):
        shutil.copytree(finished.output / name, folder / "run" / name)
    raw = finished.config.model_dump(mode="json", by_alias=True)
    raw |= {"output": str(folder / "run"), "evaluate": {"limit": 1, "heldout": 4}}
    return crlft("run", write_config(folder / "config.yaml", raw), "--json")


@pytest.fixture(scope="module")
def found(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    result: dict[str, Any] = json.loads(outcome.out.splitlines()[-1])
    return result


def test_nothing_is_done_twice(found: dict[str, Any], finished: FinishedRun) -> None:
    assert found["prepared"]["unchanged"]
    assert found["trained"]["first_step"] == found["trained"]["steps"] == finished.trained.steps
    exports = [Path(path) / "model.safetensors" for path in (found["trained"]["export"], finished.trained.export)]
    assert exports[0].read_bytes() == exports[1].read_bytes()


def test_the_export_and_its_base_are_scored(found: dict[str, Any], finished: FinishedRun) -> None:
    tuned, base = found["evaluation"]["models"]
    assert [tuned["model"], base["model"]] == [found["trained"]["export"], finished.config.model]
    assert tuned["heldout"]["losses"]["expert"]["expert"] < base["heldout"]["losses"]["expert"]["no template"] / 2
    assert tuned["suites"].keys() == base["suites"].keys() == {"agieval"}
    (pair,) = found["evaluation"]["comparisons"]
    assert pair["questions"] == 8
    assert found["evaluation"]["contamination"][0]["questions"] == 8
    output = Path(found["trained"]["output"])
    assert json.loads((output / "evaluation" / "scores.json").read_text()) == found["evaluation"]
    assert (output / "evaluation" / "report.html").exists()
    assert found["registered"] is None


def test_the_scores_are_in_the_run_in_mlflow(found: dict[str, Any]) -> None:
    uri, run_id = found["trained"]["tracking_uri"], found["trained"]["mlflow_run_id"]
    tuned, base = found["evaluation"]["models"]
    steps = found["trained"]["steps"]
    for prefix, score in (("", tuned), ("base/", base)):
        suite = points(uri, run_id, f"{prefix}generalization/agieval")
        assert suite == {steps: pytest.approx(score["suites"]["agieval"]["score"])}
    expected = tuned["heldout"]["losses"]["expert"]["mixed"]
    assert points(uri, run_id, "heldout/expert/as_mixed") == {steps: pytest.approx(expected)}
    client = MlflowClient(uri)
    assert client.get_run(run_id).info.status == "FINISHED"
    kept = {item.path for item in client.list_artifacts(run_id, "evaluation")}
    assert kept == {"evaluation/report.html", "evaluation/scores.json"}


def test_a_person_gets_a_sample(found: dict[str, Any]) -> None:
    message, reply = found["sample"]
    assert message.endswith("?")
    assert isinstance(reply, str)


def test_nothing_is_lost_for_a_sample(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a model that the driver's memory may not hold nor by one that cannot be read."""
    damaged = tmp_path / "export"
    shutil.copytree(finished.trained.export, damaged)
    (damaged / "config.json").write_text("{")
    assert sample(str(damaged)) is None
    monkeypatch.setattr(pipeline, "SAMPLE_BYTES", 1000)
    assert sample(finished.trained.export) is None
