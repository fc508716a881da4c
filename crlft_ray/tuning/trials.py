"""Runs the trials of a study with Ray Tune, from wherever its journal says that it has come to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crlft_ray.background import in_background
from crlft_ray.config.tune import Tune
from crlft_ray.errors import Stopped
from crlft_ray.stop_signals import stop_signals
from crlft_ray.tracking import mlflow_environment
from crlft_ray.tuning.budget import BudgetStopper, StopAsked
from crlft_ray.tuning.journal import Journal, TrialLog
from crlft_ray.tuning.schedulers import scheduler_of
from crlft_ray.tuning.searcher import StudySearcher
from crlft_ray.tuning.space import Domain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """What a study searches, and how."""

    tune: Tune
    """Its section of the config."""
    space: dict[str, Domain]
    seed: int
    """Of the searcher."""
    first: int
    """Step before which no trial is stopped early."""
    steps: int
    """Of a whole trial."""


def run_trials(
    trainable: Callable[[dict[str, Any], Any], dict[str, Any]],
    job: Any,
    search: Search,
    folder: Path,
    watcher: Callable[[Journal], Any],
    *,
    again: bool = False,
) -> list[TrialLog]:
    """Runs what is left of a study's trials; `job` is given to each.

    Args:
        trainable: of a trial's config for Tune (see `StudySearcher`) and `job`; gives the last report.
        folder: local folder of the journal.
        watcher: makes the Tune callback that keeps the journal.
        again: trials that failed in an earlier call are run once more; otherwise that is their result.

    Raises:
        Stopped: SIGTERM or SIGINT came; the same call goes on.
    """
    from ray import tune as ray_tune

    tune = search.tune
    journal = Journal(folder / "trials.jsonl")
    past = journal.trials()
    if again:
        past = {name: replace(log, state="running") if log.state == "failed" else log for name, log in past.items()}
    ended = sum(log.state != "running" for log in past.values())
    asked = StopAsked()
    stopper = BudgetStopper(tune.budget, search.steps, past, folder / "time.json", asked)
    left = 0 if stopper.stop_all() else tune.budget.trials - ended
    if past:
        log.info("the study goes on: %d of %d trials are done", ended, tune.budget.trials)
    if left > 0:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(_with_access(trainable, job), _beside_driver()),
            tune_config=_tune_config(search, past, left),
            run_config=ray_tune.RunConfig(
                name=f"after_{ended}",
                storage_path=str(folder / "ray_tune"),
                # Once more from its newest checkpoint; who fails twice is recorded, and the study goes on.
                failure_config=ray_tune.FailureConfig(max_failures=1),
                stop=stopper,
                callbacks=[watcher(journal)],
                verbose=0,
            ),
        )
        _fit(tuner, asked)
        stopper.keep()
        if asked.yes:
            raise Stopped("the study was stopped; the same command goes on with it")
    if stopper.reason:
        log.warning("%s; the study ends here", stopper.reason)
    return list(journal.trials().values())


def _with_access(trainable: Callable[[dict[str, Any], Any], dict[str, Any]], job: Any) -> Any:
    """Lets a trial reach MLflow as the driver does: its process has its node's environment."""
    from ray import tune as ray_tune

    return ray_tune.with_parameters(_run, run=trainable, job=job, environment=mlflow_environment())


def _run(
    asked: dict[str, Any],
    run: Callable[[dict[str, Any], Any], dict[str, Any]],
    job: Any,
    environment: dict[str, str],
) -> dict[str, Any]:
    os.environ.update(environment)
    return run(asked, job)


def _tune_config(search: Search, past: dict[str, TrialLog], left: int) -> Any:
    """Of the `left` trials that are still to be run."""
    from ray import tune as ray_tune

    tune, mode = search.tune, search.tune.direction
    return ray_tune.TuneConfig(
        num_samples=left,
        max_concurrent_trials=tune.at_once,
        search_alg=StudySearcher(search.space, tune.searcher, mode, search.seed, list(past.values())),
        scheduler=scheduler_of(tune.scheduler, first=search.first, steps=search.steps, mode=mode, past=past),
    )


def _fit(tuner: Any, asked: StopAsked) -> None:
    # Tune's own files, tables and traces say again what the journal and the watcher say.
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with stop_signals() as signalled:
        # Tune would take over the main thread's signals.
        fitting = in_background(tuner.fit, "crlft-tune")
        try:
            while not wait([fitting], timeout=0.5).done:
                if signalled.is_set() and not asked.yes:
                    log.info(
                        "stopping the study; its trials go on from their checkpoints when the command is given again; "
                        "ask again to stop at once"
                    )
                    asked.yes = True
        except BaseException:
            # Trials that end with this process are cut off, not stopped early.
            asked.yes = True
            raise
    fitting.result()


def _beside_driver() -> Any:
    """A trial's own process needs no CPU, only its workers do; it must lie where the study's folder is."""
    import ray
    from ray.tune import PlacementGroupFactory

    here = ray.get_runtime_context().get_node_id()
    (address,) = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here]
    return PlacementGroupFactory([{"CPU": 0.0, f"node:{address}": 0.001}])
