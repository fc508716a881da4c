"""A whole study on the cluster: Tune over Train over ZeRO-3, on the shards of another run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.util import placement_group_table

from crlft_ray.config import Config, load_config, validate
from crlft_ray.errors import UserError
from crlft_ray.shards.verify import VERIFIED
from crlft_ray.training.train import train
from crlft_ray.tuning.study import Study, tune
from tests.cli.command import snapshot
from tests.runs import FinishedRun
from tests.tracking.server import points, until

pytestmark = pytest.mark.slow

METRIC = "heldout/expert/as_expert"
KEY = "train.deepspeed.gradient_clipping"
GOOD, BROKEN, BAD = 1.0, "broken", 1e-9
"""A gradient cut down so far drowns in AdamW's eps."""


def _config(finished: FinishedRun, output: Path, **tune_section: Any) -> Config:
    raw = finished.config.model_dump(mode="json", by_alias=True)
    raw["output"] = str(output)
    raw["data"]["shards"] = str(finished.output / "shards")
    raw["train"] |= {"workers": 1, "max_failures": 0}
    raw["evaluate"] = {"suites": [], "every": 4}
    raw["tune"] = {"space": {KEY: f"grid({GOOD}, {BROKEN}, {BAD})"}, "searcher": "grid",
                   "budget": {"trials": 3}, "finalists": 1, **tune_section}  # fmt: skip
    return validate(raw, "test")


@pytest.fixture(scope="module")
def study(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of a good, a broken and a bad setting."""
    return tune(_config(finished, tmp_path_factory.mktemp("study") / "out"))


def test_each_trial_ends_as_it_must(study: Study) -> None:
    """The good one wins, the failing one is recorded with its error, the bad one is stopped early."""
    states = {log.values[KEY]: log for log in study.trials}
    assert {value: log.state for value, log in states.items()} == {
        GOOD: "finished", BROKEN: "failed", BAD: "stopped early",
    }  # fmt: skip
    assert "not supported between" in states[BROKEN].error
    assert states[BAD].step == 4
    assert study.winner == states[GOOD].trial
    assert [step for step, _ in states[GOOD].curve] == [4, 8, 12, 16, 18]
    assert all(math.isfinite(log.last["se"]) for log in study.trials if log.state != "failed")


def test_the_winner_trained_alone_gives_the_same_numbers(study: Study) -> None:
    """`crlft train best.yaml`, as it is."""
    config = load_config(study.best_config)
    trained = train(config)
    (winner,) = [log for log in study.trials if log.trial == study.winner]
    assert trained.metrics[METRIC] == winner.score
    ours = Path(trained.export) / "model.safetensors"
    theirs = Path(study.best_config).parent / "trials" / winner.trial / "export" / "model.safetensors"
    assert ours.read_bytes() == theirs.read_bytes()


def test_one_parent_run_and_a_child_for_each_trial(study: Study) -> None:
    client = MlflowClient(study.tracking_uri)
    parent = client.get_run(str(study.mlflow_run_id))
    assert parent.info.status == "FINISHED"
    children = client.search_runs(
        [parent.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert {child.data.params[KEY]: child.info.status for child in children} == {
        str(GOOD): "FINISHED", BROKEN: "FAILED", str(BAD): "KILLED",
    }  # fmt: skip
    (best,) = [child for child in children if child.data.tags.get("crlft.best") == "true"]
    assert best.data.params[KEY] == str(GOOD)
    assert parent.data.tags["crlft.best_run"] == best.info.run_id
    (stopped,) = [child for child in children if child.data.params[KEY] == str(BAD)]
    assert points(study.tracking_uri, stopped.info.run_id, METRIC).keys() >= {4}
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id, "study")}
    assert artifacts == {f"study/{KEY}.png", "study/history.png", "study/curves.png"}


def test_a_trial_that_is_stopped_early_gives_its_cpus_back(study: Study) -> None:
    """Its process is killed, and cannot do it; a study with many would come to a standstill."""
    until(lambda: not [group for group in placement_group_table().values() if group["state"] != "REMOVED"])


def test_only_what_is_needed_is_kept(study: Study) -> None:
    trials = Path(study.best_config).parent / "trials"
    exports = {folder.name for folder in trials.iterdir() if (folder / "export").exists()}
    assert exports == {study.winner}
    ended = [log.trial for log in study.trials if log.state != "failed"]
    assert not any((trials / name / "checkpoints").exists() for name in ended)


def test_shards_are_verified_once_for_all_trials(study: Study) -> None:
    output = Path(study.best_config).parent
    assert (output / "tracking" / VERIFIED).exists()
    assert not list((output / "trials").rglob(VERIFIED))


def test_the_same_command_does_nothing_twice(study: Study, finished: FinishedRun) -> None:
    output = Path(study.best_config).parent
    before = (output / "tracking" / "study" / "trials.jsonl").read_bytes()
    again = tune(_config(finished, output))
    assert (again.winner, again.mlflow_run_id) == (study.winner, study.mlflow_run_id)
    assert (output / "tracking" / "study" / "trials.jsonl").read_bytes() == before
    assert json.loads((output / "study_result.json").read_text())["winner"] == study.winner


def test_a_study_ends_on_a_machine_that_did_not_train_its_winner(study: Study, finished: FinishedRun) -> None:
    """Of an output on storage it has the study's own files, and what trials had to tell MLflow lay on the other one."""
    output = Path(study.best_config).parent
    client = MlflowClient(study.tracking_uri)
    parent = client.get_run(str(study.mlflow_run_id))
    best = parent.data.tags["crlft.best_run"]
    client.delete_tag(best, "crlft.best")
    shutil.rmtree(output / "trials" / study.winner / "tracking")
    again = tune(_config(finished, output))
    assert again.winner == study.winner
    assert client.get_run(best).data.tags["crlft.best"] == "true"
    assert client.get_run(str(study.mlflow_run_id)).data.tags["crlft.best_run"] == best


def test_the_tokens_are_used_up_by_a_trial_that_finishes(finished: FinishedRun, tmp_path: Path) -> None:
    """It is the winner, and no other one begins; with more tokens the study goes on."""
    section = {
        "space": {KEY: f"grid({GOOD}, {BROKEN})"}, "scheduler": "none",
        "budget": {"trials": 2, "tokens": 18 * finished.config.train.global_batch_tokens},
    }  # fmt: skip
    found = tune(_config(finished, tmp_path / "out", **section))
    assert [(log.trial, log.state, log.step) for log in found.trials][:1] == [("000", "finished", 18)]
    assert found.winner == "000"
    assert not (tmp_path / "out" / "trials" / "000" / "checkpoints").exists()
    client = MlflowClient(found.tracking_uri)
    (experiment,) = [client.get_run(str(found.mlflow_run_id)).info.experiment_id]
    assert {run.info.status for run in client.search_runs([experiment])} <= {"FINISHED", "KILLED"}


def test_a_fresh_start_that_is_refused_removes_nothing(study: Study, finished: FinishedRun, tmp_path: Path) -> None:
    output = Path(study.best_config).parent
    before = snapshot(output)
    config = _config(finished, output)
    elsewhere = config.model_copy(update={"data": config.data.model_copy(update={"shards": str(tmp_path)})})
    with pytest.raises(UserError, match=r"data.shards: .* holds no shards"):
        tune(elsewhere, fresh=True)
    assert snapshot(output) == before


def test_another_study_is_refused(study: Study, finished: FinishedRun) -> None:
    output = Path(study.best_config).parent
    with pytest.raises(UserError, match=r"holds another study: its tune.scheduler is asha, now it would be none"):
        tune(_config(finished, output, scheduler="none"))
    with pytest.raises(UserError, match=r"holds another study: its tune.space"):
        tune(_config(finished, output, space={"train.lr": "grid(0.03, 0.02, 0.01)"}))


def test_a_study_and_a_training_do_not_share_a_folder(study: Study, finished: FinishedRun) -> None:
    output = Path(study.best_config).parent
    with pytest.raises(UserError, match="holds a training; give the study a folder of its own"):
        tune(_config(finished, finished.output), fresh=True)
    assert (finished.output / "result.json").exists()
    with pytest.raises(UserError, match="holds a study; give the training a folder of its own"):
        train(_config(finished, output), fresh=True)
    assert (output / "study_result.json").exists()


def test_what_cannot_be_run_is_said_at_once(finished: FinishedRun, tmp_path: Path) -> None:
    for section, message in (
        ({"metric": "accuracy"}, "tune.metric: no training reports 'accuracy'; it can be one of heldout/expert/as_exp"),
        ({"at_once": 9}, "tune.at_once: 9 trials of 1 workers each do not fit: the cluster has room for"),
        ({"space": {"train.workers": "grid(1, 2, 9)"}, "at_once": 1}, "1 trials of 9 workers each do not fit"),
        ({"space": {"train.rate": "uniform(0, 1)"}}, "the config has no key 'train.rate'"),
    ):
        with pytest.raises(UserError) as error:
            tune(_config(finished, tmp_path / "out", **section))
        assert message in str(error.value)
    assert not (tmp_path / "out").exists()
