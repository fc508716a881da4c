"""An evaluation in MLflow: as a run of its own, or added to the run that trained the model."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from crlft_ray.evaluation.evaluate import Evaluation, short_names
from crlft_ray.storage import Place
from crlft_ray.tracking import Recorder, Run, RunSpec, tracking_uri


def track(evaluation: Evaluation, files: Sequence[Place], output: str, uri: str | None) -> None:
    """Logs scores and files as a run of experiment `crlft`; MLflow that is away is no reason to fail."""
    place = Place.of(output)
    beside = Path(place.path) / "tracking" if place.is_local else Path("crlft-tracking").absolute() / place.path
    # A run of its own each time: MLflow keeps the first value of a step.
    folder = beside / time.strftime("%Y%m%d-%H%M%S")
    run = Run(tracking_uri(uri or os.environ.get("MLFLOW_TRACKING_URI"), output), folder)
    models = {str(number): scores.model for number, scores in enumerate(evaluation.models)}
    suites = list(dict.fromkeys(suite for scores in evaluation.models for suite in scores.suites))
    name = f"evaluate {' '.join(short_names(list(models.values())))}"
    run.start(RunSpec("crlft", name[:250], {"models": models, "suites": suites}))
    add_scores(evaluation, run, 0)
    add_files(files, run)
    run.finish()


def add_scores(evaluation: Evaluation, run: Run, step: int) -> None:
    """Adds the first model's scores under their own names, the others' under `base/` or their number."""
    recorder = Recorder(run.uri, run.folder, system_metrics=False)
    for number, scores in enumerate(evaluation.models):
        prefix = ("", "base/")[number] if number < 2 else f"{number}/"
        recorder.record(step, {f"{prefix}{name}": value for name, value in scores.metrics().items()})
    recorder.close()


def add_files(files: Sequence[Place], run: Run) -> None:
    """Adds files to the run's artifacts, under `evaluation/`."""
    copies = run.folder / "evaluation"
    copies.mkdir(parents=True, exist_ok=True)
    for file in files:
        (copies / file.name).write_bytes(file.read_bytes())
    run.log_artifacts([copies / file.name for file in files], "evaluation")
