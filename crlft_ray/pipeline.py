"""`crlft run`: prepare, train, evaluate and register in a row."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.evaluation.evaluate import Evaluation, score
from crlft_ray.evaluation.html import write_report
from crlft_ray.evaluation.suites import load_suite, load_suites
from crlft_ray.evaluation.tracked import add_files, add_scores
from crlft_ray.lease import owned
from crlft_ray.registry.register import Registered, register
from crlft_ray.shards.prepare import Prepared, prepare, shards_folder
from crlft_ray.storage import Place
from crlft_ray.talk import chat
from crlft_ray.tracking import Run
from crlft_ray.training.earlier import trained_on
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.training.train import Trained, train

log = logging.getLogger(__name__)

SAMPLE_MESSAGE = "Hi! How was your weekend?"
SAMPLE_BYTES = 4e9
"""Of the largest model that is loaded beside the driver for a reply."""


@dataclass(frozen=True)
class RunResult:
    """All that `run` found."""

    prepared: Prepared
    trained: Trained
    evaluation: Evaluation | None
    """Of the export, then of the base model; none where the config names nothing to evaluate on."""
    registered: Registered | None
    """Where the config has a `register.name`."""
    sample: tuple[str, str] | None
    """A message, and the export's reply; none of a model that may be too large for this machine."""


def run(config: Config, *, fresh: bool = False) -> RunResult:
    """Brings a config from conversations to scores and the registry, tracked in one MLflow run.

    Raises:
        UserError, Stopped, TrainingFailed: as the stages.
    """
    # What cannot be fetched or read is better known before the training than after it.
    load_suites(config.evaluate.suites)
    if config.register_.name:
        load_suite(config.register_.suite)
    with owned(config.output):
        prepared = prepare(config, needed=None if fresh else trained_on(config))
        trained = train(config, fresh=fresh)
        evaluation = _evaluate(config, prepared, trained)
        name = config.register_.name
        registered = register(config.output, name=name) if name else None
        return RunResult(prepared, trained, evaluation, registered, sample(trained.export))


def sample(export: str) -> tuple[str, str] | None:
    """A message and a reply; none where that might cost what was done: the driver may have little memory."""
    files = [child for child in Place.of(export).children() if child.name.endswith(".safetensors")]
    if sum(file.info().size or 0 for file in files) > SAMPLE_BYTES:
        return None
    try:
        replies = chat(export, message=SAMPLE_MESSAGE, max_new_tokens=60)
    except (OSError, UserError) as error:
        log.warning("no sample reply: %s", error)
        return None
    assert replies is not None
    return SAMPLE_MESSAGE, next(iter(replies.values()))


def _evaluate(config: Config, prepared: Prepared, trained: Trained) -> Evaluation | None:
    held_out = prepared.manifest.counts["held_out"]
    if not held_out and not config.evaluate.suites:
        return None
    log.info("evaluating the export and %s", config.model)
    folder = Place.of(config.output) / "evaluation"
    evaluation = score(
        [trained.export, config.model],
        suites=config.evaluate.suites,
        shards=str(shards_folder(config)) if held_out else None,
        limit=config.evaluate.limit,
        heldout=config.evaluate.heldout,
        folder=folder,
    )
    files = write_report(evaluation, folder)
    run = Run(trained.tracking_uri, tracking_folder(config))
    add_scores(evaluation, run, trained.steps)
    add_files(files, run)
    return evaluation
