"""`crlft tune`: a study over class weights, or anything else that is not in the shards."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crlft_ray.config import Config, dump_config, with_absolute_paths
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.evaluation.evaluate import Evaluation, score
from crlft_ray.evaluation.suites import load_suite, load_suites
from crlft_ray.json_text import json_text
from crlft_ray.lease import owned
from crlft_ray.registry.register import Registered, register
from crlft_ray.shards.prepare import prepare, shards_folder
from crlft_ray.shards.verify import VERIFIED, verify_shards
from crlft_ray.storage import Place, beneath
from crlft_ray.tracking import Run, tracking_uri
from crlft_ray.tracking.store import shown
from crlft_ray.training.schedule import order_of, planned_steps
from crlft_ray.training.tracked import remembered, tracking_folder
from crlft_ray.training.worker import checkpoints_folder
from crlft_ray.tuning.checks import (
    check_no_training,
    check_room,
    check_same_study,
    identity,
    measured,
    metric_of,
    studied_on,
)
from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.mirror import MEMORY, mirrored
from crlft_ray.tuning.plots import plot_study
from crlft_ray.tuning.space import Domain, parse_space
from crlft_ray.tuning.tracked import open_run, tell_mlflow
from crlft_ray.tuning.trial import Trials, end_run, run_trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """Result of `tune`; also in study_result.json."""

    metric: str
    direction: str
    trials: list[TrialLog]
    finalists: list[str]
    """The best trials, best first by the metric."""
    evaluation: Evaluation | None
    """Of the finalists and the base model on the `select` half; none where the config names no suites."""
    winner: str
    best_config: str
    """File that `crlft train` runs as it is."""
    mlflow_run_id: str | None
    tracking_uri: str
    registered: Registered | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "metric": self.metric,
            "direction": self.direction,
            "trials": [{**asdict(log), "score": log.score, "step": log.step} for log in self.trials],
            "finalists": self.finalists,
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
            "winner": self.winner,
            "best_config": self.best_config,
            "mlflow_run_id": self.mlflow_run_id,
            "tracking_uri": shown(self.tracking_uri),
            "registered": self.registered.to_dict() if self.registered else None,
        }


def tune(config: Config, *, fresh: bool = False, register_as: str | None = None) -> Study:
    """Searches `tune.space` over one set of shards, or goes on with a study that was cut off.

    Args:
        fresh: start over; what earlier starts left in the output folder is removed, but for the shards.
        register_as: name under which the winner goes to the registry, through the gate.

    Raises:
        UserError: the study cannot be run as it is described, or the folder holds another one.
        Stopped: SIGTERM or SIGINT came; the same command goes on.
        TrainingFailed: no trial came to its end.
    """
    space = parse_space(config)
    metric_of(config)
    # What cannot be fetched or read is better known before the trials than after them.
    load_suites(config.evaluate.suites)
    if register_as:
        load_suite(config.register_.suite)
    config = _with_tracking(with_absolute_paths(config))
    from crlft_ray.ray_session import connect, is_own_cluster

    connect()
    if is_own_cluster():
        # No other node will come, so it is said before shards are made.
        check_room(config, space)
    with owned(config.output):
        check_no_training(config)
        with mirrored(tracking_folder(config), config.output):
            return _study(config, space, fresh, register_as)


def _study(config: Config, space: dict[str, Domain], fresh: bool, register_as: str | None) -> Study:
    """From the conversations, or from wherever the study has come to, to a winner."""
    # They import ray, which must not happen before `connect`.
    from crlft_ray.tuning.trials import Search, run_trials
    from crlft_ray.tuning.watcher import Watcher

    folder = tracking_folder(config) / "study"
    manifest = prepare(config, needed=None if fresh else studied_on(folder)).manifest
    config = measured(config, manifest)
    what = identity(config, manifest.fingerprint)
    if not fresh:
        check_same_study(what, folder, config.output, ", or start over with --fresh")
    shards, verified = shards_folder(config), Place.of(tracking_folder(config)) / VERIFIED
    verify_shards(shards, manifest, verified)
    # Not earlier: nodes that are started for trials would be paid for while shards are made.
    check_room(config, space)
    if fresh:
        # Not before all else is known to be right.
        _start_over(config)
        check_same_study(what, folder, config.output)
    run = open_run(config, manifest.fingerprint)
    job = Trials(config, str(shards), run.run_id, metric_of(config), str(Path.cwd()), verified)
    search = Search(
        tune=config.tune,
        space=space,
        seed=config.train.seed,
        first=config.evaluate.every,
        steps=planned_steps(config, order_of(config, manifest)),
    )
    with run.ended_with_block():
        logs = run_trials(run_trial, job, search, folder, lambda journal: Watcher(journal, job.metric, job.ended))
        return _finish(config, job, space, logs, run, folder, register_as)


def _with_tracking(config: Config) -> Config:
    """Trials must find the study's MLflow."""
    uri = tracking_uri(config.tracking.uri, config.output)
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})


def _start_over(config: Config) -> None:
    output = Place.of(config.output)
    for name in ("trials", "evaluation", "best", "best.yaml", "study_result.json", MEMORY):
        (output / name).remove()
    for place in remembered(config):
        place.remove()


def _finish(
    config: Config,
    job: Trials,
    space: dict[str, Domain],
    logs: Sequence[TrialLog],
    run: Run,
    folder: Path,
    register_as: str | None,
) -> Study:
    """From the trials to a winner."""
    best = ranked(logs, config.tune.direction)[: config.tune.finalists]
    if not best:
        why = "; ".join({log.error for log in logs if log.error}) or "its budget was too small"
        raise TrainingFailed(f"no trial of the study came to its end: {why}")
    _check_exports(config, best)
    plots = plot_study(logs, space, job.metric, config.tune.direction, folder / "plots")
    exports = {log.trial: beneath(config.output, f"trials/{log.trial}/export") for log in best}
    _tidy(job, logs, set(exports))
    evaluation = None
    if config.evaluate.suites:
        evaluation = score(
            [*exports.values(), config.model],
            suites=config.evaluate.suites,
            shards=None,
            limit=config.evaluate.limit,
            half="select",
            folder=Place.of(config.output) / "evaluation",
        )
    winner = _winner(best, evaluation)
    best_config = Place.of(config.output) / "best.yaml"
    # A folder for each winner: a study that goes on may come to another one, whose training is not this one's.
    resolved = job.config_of(winner.trial, winner.values, output=beneath(config.output, f"best/{winner.trial}"))
    best_config.write_text(dump_config(resolved))
    tell_mlflow(run, job, logs, best, winner, evaluation, plots)
    registered = register(beneath(config.output, f"trials/{winner.trial}"), name=register_as) if register_as else None
    study = Study(
        metric=job.metric,
        direction=config.tune.direction,
        trials=list(logs),
        finalists=list(exports),
        evaluation=evaluation,
        winner=winner.trial,
        best_config=str(best_config),
        mlflow_run_id=run.run_id,
        tracking_uri=run.uri,
        registered=registered,
    )
    (Place.of(config.output) / "study_result.json").write_text(json_text(study.to_dict(), indent=2) + "\n")
    return study


def _check_exports(config: Config, best: Sequence[TrialLog]) -> None:
    """A study that has ended has kept its finalists' exports alone."""
    gone = [log.trial for log in best if not Place.of(beneath(config.output, f"trials/{log.trial}/export")).exists()]
    if gone:
        raise UserError(
            f"tune.finalists: the study has ended before with fewer, and removed the export of trial {gone[0]}; "
            "ask for no more than it kept, or train that trial's config again"
        )


def ranked(logs: Sequence[TrialLog], direction: str) -> list[TrialLog]:
    """The finished trials, best first; of equals the earlier one."""
    finished = [log for log in logs if log.state == "finished"]
    return sorted(finished, key=lambda log: log.score if direction == "min" else -log.score)


def _winner(best: Sequence[TrialLog], evaluation: Evaluation | None) -> TrialLog:
    """The finalist with the highest mean over the suites; the metric decides where there are none, and ties."""
    if evaluation is None:
        return best[0]
    means = [
        math.fsum(found.score for found in scores.suites.values()) / len(scores.suites)
        for scores in evaluation.models[: len(best)]
    ]
    return best[means.index(max(means))]


def _tidy(job: Trials, logs: Sequence[TrialLog], kept: set[str]) -> None:
    """Removes the other trials' exports, and checkpoints that nothing goes on from; ends runs that nobody has ended.

    A large model's would fill the storage, and their configs make them again. A trial that was stopped early may have
    written a checkpoint after it was cleaned up.
    """
    for log in logs:
        try:
            config = job.config_of(log.trial, log.values)
        except UserError:
            # Values that do not go together: it failed before it wrote anything.
            continue
        # A running one was cut off by the budget, and goes on if it is raised.
        unneeded = [] if log.state in ("failed", "running") else [checkpoints_folder(config)]
        unneeded += [] if log.trial in kept else [Place.of(config.output) / "export"]
        for place in unneeded:
            place.remove()
        if log.state != "finished" and not Run(config.tracking.uri or "", tracking_folder(config)).ended:
            end_run(config, log.state)
