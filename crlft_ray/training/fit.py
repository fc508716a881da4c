"""Runs Ray Train beside a progress display, and passes on the wish to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event
from typing import Any

from crlft_ray.background import in_background
from crlft_ray.device import backend, uses_gpu, worker_environment
from crlft_ray.errors import Stopped, TrainingFailed, UserError
from crlft_ray.lease import Lease
from crlft_ray.stop_signals import stop_signals
from crlft_ray.tracking import Record
from crlft_ray.training.cluster import worker_resources
from crlft_ray.training.failure import first_cause
from crlft_ray.training.nudge import Nudge
from crlft_ray.training.progress import Progress
from crlft_ray.training.schedule import planned_steps
from crlft_ray.training.worker import TrainJob, train_worker

log = logging.getLogger(__name__)

_STARTS = 60
"""Attempts, of a minute each, to get all workers started: so long a lost node may take to come back."""
_GIVE_UP_S = 10.0
_RAY_TRAIN = "ray_train"
"""Folder of Ray Train's own state beside the checkpoints, which are ours."""


def fit(
    job: TrainJob,
    lease: Lease,
    open_run: Callable[[], object],
    on_records: Callable[[list[Record]], None] | None = None,
) -> dict[str, Any]:
    """Trains to the planned end; `on_records` is given the metrics as they come.

    `open_run` opens the MLflow run while the workers start; what it raises ends them.

    Raises:
        Stopped: after SIGTERM or SIGINT, and a checkpoint.
        TrainingFailed, UserError: the run cannot go on.
        KeyboardInterrupt: after a second signal, at once.
    """
    from ray.exceptions import RayError

    steps = planned_steps(job.config, job.order)
    with Progress(steps, job.config.class_names) as progress, stop_signals() as asked:
        # Ray Train would take over the signals of the main thread, and stop without a checkpoint.
        fitting = in_background(lambda: _fit_trainer(job), "crlft-fit")
        opening = in_background(open_run, "crlft-mlflow")
        try:
            _watch(job, fitting, opening, lease, progress, asked, on_records)
        except RayError as error:
            _give_up(job)
            raise TrainingFailed(f"a process beside the training is gone: {first_cause(error)}") from error
        except BaseException:
            _give_up(job)
            raise
        finally:
            # Whoever ends the run in MLflow comes next.
            wait([opening], timeout=_GIVE_UP_S)
    return _checked(fitting.result(), steps)


def _watch(
    job: TrainJob,
    fitting: Future[dict[str, Any]],
    opening: Future[object],
    lease: Lease,
    progress: Progress,
    asked: Event,
    on_records: Callable[[list[Record]], None] | None,
) -> None:
    """Shows what comes from the workers until they end."""
    import ray

    told, said, position, nudge = False, 0, 0, Nudge()
    ended = False
    while not ended:
        ended = bool(wait([fitting], timeout=0.5).done)
        lease.check()
        if opening.done():
            opening.result()
        if asked.is_set() and not told:
            told = True
            log.info("stopping after the current step, with a checkpoint; ask again to stop at once")
            job.channel.ask_to_stop.remote()
        lines, refusal = ray.get(job.channel.said_since.remote(said))
        said += len(lines)
        for line in lines:
            log.info("%s", line)
        if refusal:
            raise UserError(refusal)
        latest = ray.get(job.channel.latest.remote())
        progress.show(latest["step"], latest["metrics"])
        nudge.heard(latest["step"])
        if on_records is not None:
            history = ray.get(job.channel.history_since.remote(position))
            position = history.position
            on_records(history.records)


def _give_up(job: TrainJob) -> None:
    """Ends the workers at once: the folder may be another run's by now."""
    import ray
    from ray.exceptions import RayError

    try:
        for worker in ray.get(job.channel.give_up.remote(), timeout=_GIVE_UP_S):
            ray.kill(worker)
    except RayError as error:
        log.warning("the workers could not be ended (%s); they end with this process", first_cause(error))


def _checked(done: dict[str, Any], steps: int) -> dict[str, Any]:
    if "failed" in done:
        raise (UserError if done["user_error"] else TrainingFailed)(done["failed"])
    if "stopped" in done:
        where = "there" if done["kept"] else "the newest complete checkpoint, because that of this step was not written"
        raise Stopped(f"stopped after step {done['step']} of {steps}; the same command goes on from {where}")
    if done.get("step") != steps:
        raise TrainingFailed(f"only {done.get('step', 0)} of {steps} planned steps were run")
    return done


def _fit_trainer(job: TrainJob) -> dict[str, Any]:
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.config import LoggingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    from crlft_ray.training.process_group import GroupConfig
    from crlft_ray.training.trainer import Trainer

    config, folder = job.config, job.checkpoints
    workers = config.train.workers
    trainer = Trainer(
        train_worker,
        train_loop_config=job,
        torch_config=GroupConfig(backend=backend(config), timeout_s=int(config.train.collective_timeout)),
        scaling_config=ScalingConfig(
            num_workers=workers if isinstance(workers, int) else (workers.min, workers.max),
            use_gpu=uses_gpu(config),
            resources_per_worker=worker_resources(config),
        ),
        run_config=RunConfig(
            name=_RAY_TRAIN,
            storage_path=folder.path,
            storage_filesystem=folder.filesystem,
            failure_config=FailureConfig(max_failures=config.train.max_failures, controller_failure_limit=_STARTS),
            logging_config=LoggingConfig(log_level="WARNING"),
            worker_runtime_env={"env_vars": worker_environment(config)},
        ),
    )
    try:
        result = trainer.fit()
    # Where a node's memory is full, Ray kills its trainer's controller with the workers.
    except (TrainingFailedError, RayError) as error:
        raise TrainingFailed(first_cause(error)) from error
    return dict(result.return_value or {})
