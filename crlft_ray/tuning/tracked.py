"""A study's run in MLflow, the parent of its trials' runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from crlft_ray.config import Config
from crlft_ray.evaluation.evaluate import Evaluation
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.storage import Place
from crlft_ray.tracking import Dataset, Recorder, Run, RunSpec
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.trial import Trials


def open_run(config: Config, fingerprint: str) -> Run:
    """Begins the study's run, or goes on with it."""
    run = Run(config.tracking.uri or "", tracking_folder(config))
    run.start(
        RunSpec(
            experiment=config.tracking.experiment,
            name=f"study {Place.of(config.output).name}",
            params=config.model_dump(mode="json", by_alias=True),
            dataset=Dataset("shards", fingerprint, str(shards_folder(config))),
            tags={"fingerprint": fingerprint, "crlft.study": "true"},
        )
    )
    return run


def tell_mlflow(
    run: Run,
    job: Trials,
    logs: Sequence[TrialLog],
    best: Sequence[TrialLog],
    winner: TrialLog,
    evaluation: Evaluation | None,
    plots: Sequence[Path],
) -> None:
    """The plots, the winner and its scores."""
    ended = sum(log.state != "running" for log in logs)
    by_trial = {log.trial: log for log in logs}
    run.log_artifacts(plots, "study")
    metrics = {f"best/{job.metric}": winner.score}
    if evaluation is not None:
        scores = evaluation.models[list(best).index(winner)]
        metrics |= {f"best/{name}": value for name, value in scores.metrics().items()}
    recorder = Recorder(run.uri, run.folder, system_metrics=False)
    # A study that goes on may come to another winner: a later value, and one trial with the tag.
    recorder.record(ended, metrics)
    recorder.close()
    earlier = Place.of(job.config.output) / "study_result.json"
    before = json.loads(earlier.read_text())["winner"] if earlier.exists() else winner.trial
    for trial, mark in ((before, "false"), (winner.trial, "true")):
        child = Run(run.uri, tracking_folder(job.config_of(trial, by_trial[trial].values)))
        if not child.started and (run_id := by_trial[trial].last.get("mlflow_run_id")):
            # It was trained before the study went on on this machine.
            child.adopt(run_id)
        if child.run_id is not None:
            child.tag({"crlft.best": mark})
    run.tag({"crlft.best_trial": winner.trial, "crlft.best_run": str(child.run_id)})
