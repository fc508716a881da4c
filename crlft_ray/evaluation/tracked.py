"""An evaluation in MLflow: as a run of its own, or added to the run that trained the model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from crlft_ray.errors import UserError
from crlft_ray.evaluation.evaluate import Evaluation, short_names
from crlft_ray.storage import Place
from crlft_ray.tracking import Recorder, Run, RunSpec, check_kind, tracking_uri

log = logging.getLogger(__name__)


def address(uri: str | None, output: str) -> str:
    """Where MLflow is: at `uri`, where MLFLOW_TRACKING_URI says, or in a database in `output`.

    Raises:
        UserError: MLflow cannot use it; the message names where it comes from.
    """
    option, variable = "--tracking-uri", "MLFLOW_TRACKING_URI"
    given = uri or os.environ.get(variable) or None
    key = f"{option} or {variable}" if given is None else option if uri else variable
    found = tracking_uri(given, output, key)
    check_kind(found, key)
    return found


def track(evaluation: Evaluation, files: Sequence[Place], output: str, uri: str) -> None:
    """Logs scores and files as a run of experiment `crlft` at an `address`.

    MLflow that is away, or denies access, is no reason to fail: it is said, and what was found is in `output`.
    """
    place = Place.of(output)
    beside = Path(place.path) / "tracking" if place.is_local else Path("crlft-tracking").absolute() / place.path
    # A run of its own each time: MLflow keeps the first value of a step.
    folder = beside / time.strftime("%Y%m%d-%H%M%S")
    run = Run(uri, folder)
    models = {str(number): scores.model for number, scores in enumerate(evaluation.models)}
    suites = list(dict.fromkeys(suite for scores in evaluation.models for suite in scores.suites))
    name = f"evaluate {' '.join(short_names(list(models.values())))}"
    try:
        run.start(RunSpec("crlft", name[:250], {"models": models, "suites": suites}))
    except UserError as error:
        log.warning("tracking: %s. MLflow was told nothing; scores and report are in %s", error, output)
        return
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
