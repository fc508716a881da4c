"""`crlft run`: prepare, train and evaluate in a row."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from crlft_ray.assets import asset_path
from crlft_ray.config import Config
from crlft_ray.evaluation.evaluate import ModelScores, evaluate
from crlft_ray.json_text import json_text
from crlft_ray.lease import owned
from crlft_ray.shards.prepare import Prepared, prepare, shards_folder
from crlft_ray.storage import Place
from crlft_ray.talk import chat
from crlft_ray.tracking import Recorder, Run
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.training.train import Trained, train

log = logging.getLogger(__name__)

SAMPLE_MESSAGE = "Hi! How was your weekend?"


@dataclass(frozen=True)
class RunResult:
    """All that `run` found."""

    prepared: Prepared
    trained: Trained
    scores: list[ModelScores]
    """Of the export, then of the base model; none where the config names nothing to evaluate on."""
    sample: tuple[str, str]
    """A message, and the export's reply."""


def run(config: Config, *, fresh: bool = False) -> RunResult:
    """Brings a config from conversations to scores, tracked in one MLflow run.

    Raises:
        UserError, Stopped, TrainingFailed: as the stages.
    """
    for suite in config.evaluate.suites:
        # What cannot be fetched is better known before the training than after it.
        asset_path(suite)
    with owned(config.output):
        prepared = prepare(config)
        trained = train(config, fresh=fresh)
        return _evaluate(config, prepared, trained)


def _evaluate(config: Config, prepared: Prepared, trained: Trained) -> RunResult:
    scores: list[ModelScores] = []
    held_out = prepared.manifest.counts["held_out"]
    if held_out or config.evaluate.suites:
        log.info("evaluating the export and %s", config.model)
        scores = evaluate(
            [trained.export, config.model],
            suites=config.evaluate.suites,
            shards=str(shards_folder(config)) if held_out else None,
            limit=config.evaluate.limit,
            heldout=config.evaluate.heldout,
        )
        _track(config, trained, scores)
    reply = chat(trained.export, message=SAMPLE_MESSAGE, max_new_tokens=60)
    return RunResult(prepared, trained, scores, (SAMPLE_MESSAGE, reply or ""))


def _track(config: Config, trained: Trained, scores: list[ModelScores]) -> None:
    """Writes evaluation.json and adds the scores to the training's run; the base model's under names of their own."""
    report = Place.of(config.output) / "evaluation.json"
    report.write_text(json_text([score.to_dict() for score in scores], indent=2) + "\n")
    folder = tracking_folder(config)
    recorder = Recorder(trained.tracking_uri, folder, system_metrics=False)
    tuned, base = scores
    recorder.record(trained.steps, {**tuned.metrics(), **{f"base/{k}": v for k, v in base.metrics().items()}})
    recorder.close()
    copy = Path(folder) / "artifacts" / report.name
    copy.write_bytes(report.read_bytes())
    Run(trained.tracking_uri, folder).log_artifacts([copy])
