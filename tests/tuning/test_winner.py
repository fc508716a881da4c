"""The end of a study: the suites choose among its finalists, and the winner goes through the gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from crlft_ray.config import validate
from crlft_ray.tuning.study import Study, tune
from tests.registry.conftest import write_suite
from tests.runs import run_config, write_learnable

pytestmark = pytest.mark.slow

NAME = "from-a-study"
LEARNS, DOES_NOT = 0.03, 1e-7


@pytest.fixture(scope="module")
def study(ray_session: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two trials side by side, of which the metric prefers the worse one."""
    folder = tmp_path_factory.mktemp("winner")
    suite = str(write_suite(folder / "replies"))
    raw = run_config(
        tiny_model, folder / "out", write_learnable(folder / "conversations.jsonl"),
        train={"workers": 1}, evaluate={"suites": [suite], "every": 100}, register={"suite": suite},
    )  # fmt: skip
    raw["tune"] = {
        "space": {"train.lr": f"grid({LEARNS}, {DOES_NOT})"}, "searcher": "grid", "scheduler": "none",
        "direction": "max", "budget": {"trials": 2}, "at_once": 2, "finalists": 2,
    }  # fmt: skip
    return tune(validate(raw, "test"), register_as=NAME)


def test_the_suites_decide_and_not_the_metric(study: Study) -> None:
    of = {log.values["train.lr"]: log for log in study.trials}
    assert {log.state for log in study.trials} == {"finished"}
    assert of[DOES_NOT].score > of[LEARNS].score
    assert study.finalists == [of[DOES_NOT].trial, of[LEARNS].trial]
    assert study.winner == of[LEARNS].trial
    assert study.evaluation is not None
    worse, better, _ = ([found.score for found in scores.suites.values()] for scores in study.evaluation.models)
    assert better > worse


def test_the_winner_is_registered_through_the_gate(study: Study) -> None:
    assert study.registered is not None
    assert study.registered.promoted, study.registered.decision.reason
    client = MlflowClient(study.tracking_uri)
    version = client.get_model_version_by_alias(NAME, "champion")
    parent = client.get_run(str(study.mlflow_run_id))
    assert version.run_id == parent.data.tags["crlft.best_run"]
    result = json.loads((Path(study.best_config).parent / "study_result.json").read_text())
    assert result["registered"]["version"] == str(version.version)


def test_all_finalists_keep_their_exports(study: Study) -> None:
    trials = Path(study.best_config).parent / "trials"
    assert {folder.name for folder in trials.iterdir() if (folder / "export").exists()} == set(study.finalists)
    assert not list(trials.glob("*/checkpoints"))
