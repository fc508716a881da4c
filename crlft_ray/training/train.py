"""`crlft train`: from shards to a tracked, exported model, driven by Ray Train."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from crlft_ray.config import Config, dump_config, validate
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.json_text import json_text
from crlft_ray.model.load import model_config
from crlft_ray.shards.manifest import Manifest, read_manifest
from crlft_ray.shards.prepare import chat_tokenizer, model_path, shards_folder
from crlft_ray.shards.verify import verify_shards
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer
from crlft_ray.tracking import Dataset, Record, Recorder, Run, RunSpec, plot_curves, tracking_uri
from crlft_ray.training.checkpoint import newest_state
from crlft_ray.training.cluster import check_capacity, worker_resources
from crlft_ray.training.device import backend, uses_gpu
from crlft_ray.training.progress import Progress
from crlft_ray.training.schedule import order_of, peak_lr, planned_steps, weight_shares
from crlft_ray.training.worker import TrainJob, train_worker

log = logging.getLogger(__name__)

_CHECKPOINTS = "checkpoints"
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Trained:
    """Result of `train`; also in result.json."""

    output: str
    export: str
    steps: int
    first_step: int
    """Where this process began: 0, or the step it resumed from."""
    packs_consumed: int
    skipped_not_finite: int
    skipped_no_weight: int
    fingerprint: str
    mlflow_run_id: str | None
    tracking_uri: str
    metrics: dict[str, float]
    """The last value of every metric."""


def train(config: Config) -> Trained:
    """Trains on the prepared shards, or goes on from the output's newest checkpoint, and exports the model.

    Raises:
        UserError: shards, model, output folder or cluster do not fit the config.
        TrainingFailed: the run could not go on.
    """
    job_parts = _check(config)
    from crlft_ray.ray_session import connect

    connect()
    verify_shards(shards_folder(config), job_parts[0])
    check_capacity(config)
    manifest, tokenizer, path = job_parts
    output = Place.of(config.output)
    (output.make_folder() / "config.yaml").write_text(dump_config(config))
    _say_shares(config, manifest)
    with _Tracked(config, manifest) as tracked:
        job = TrainJob(
            config=config,
            manifest=manifest,
            shards=shards_folder(config),
            export=output / "export",
            model_path=path,
            tokenizer=tokenizer,
            peak_lr=peak_lr(config, manifest),
            run_id=tracked.run.run_id or "",
            recorder=tracked.recorder,
        )
        done = _fit(job, tracked)
    trained = Trained(
        output=str(output),
        export=str(job.export),
        steps=done["step"],
        first_step=done["first_step"],
        packs_consumed=done["packs_consumed"],
        skipped_not_finite=done["not_finite"],
        skipped_no_weight=done["no_weight"],
        fingerprint=manifest.fingerprint,
        mlflow_run_id=tracked.run.run_id,
        tracking_uri=tracked.run.uri,
        metrics=tracked.last_metrics,
    )
    (output / "result.json").write_text(json_text(asdict(trained), indent=2) + "\n")
    return trained


def tracking_folder(config: Config) -> Path:
    """Where metrics wait for MLflow: in the output, or beside this process where that is remote."""
    if "://" in config.output:
        return Path("crlft-tracking") / config.output.partition("://")[2].partition("?")[0]
    return Path(config.output).absolute() / "tracking"


def _check(config: Config) -> tuple[Manifest, ChatTokenizer, str]:
    """Everything that can be found wrong before a worker starts."""
    path = model_path(config)
    model_config(path, config.data.context)
    folder = shards_folder(config)
    manifest = read_manifest(folder)
    tokenizer = chat_tokenizer(config)
    made_with = manifest.settings
    # In their order, too: shards know a class by its number.
    conditions = {name: spec.condition for name, spec in config.classes.items()}
    made_for = {counts.name: counts.condition for counts in manifest.classes}
    for key, made, now in (
        ("tokenizer and template", made_with["tokenizer"][:12], tokenizer.digest[:12]),
        ("classes and conditions", list(made_for.items()), list(conditions.items())),
        ("data.context", made_with["context"], config.data.context),
        ("data.pack_tokens", made_with["pack_tokens"], config.data.pack_tokens),
    ):
        if made != now:
            raise UserError(f"{folder}: made with other {key} ({made}) than this run's ({now}); run `crlft prepare`")
    tracking_uri(config.tracking.uri, config.output)
    _check_output(config)
    _check_checkpoint(config, manifest)
    return manifest, tokenizer, path


def _check_checkpoint(config: Config, manifest: Manifest) -> None:
    """What the output's newest checkpoint goes on from must be what this config continues."""
    state = newest_state(Place.of(config.output) / _CHECKPOINTS)
    if state is None:
        return
    where = f"output: {config.output} holds a run that has done {state.step} steps"
    if state.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{where} on other data ({state.fingerprint[:12]}, now {manifest.fingerprint[:12]}); "
            "choose another output folder"
        )
    if state.world_size != config.train.workers:
        raise UserError(
            f"train.workers: {where} with {state.world_size} workers; it goes on with as many, not with "
            f"{config.train.workers}"
        )
    planned = planned_steps(config, order_of(config, manifest))
    if state.step > planned:
        raise UserError(f"train.max_steps: {where}, more than the {planned} that this config plans")


def _check_output(config: Config) -> None:
    """An output folder belongs to one run: what a step learns from, and how it counts, must be the same."""
    place = Place.of(config.output) / "config.yaml"
    if not place.exists():
        return
    earlier = validate(yaml.safe_load(place.read_text()), str(place))
    for key, before, now in (
        ("model", earlier.model, config.model),
        ("template", earlier.template, config.template),
        ("class weights", earlier.class_weights(), config.class_weights()),
        ("train.seed", earlier.train.seed, config.train.seed),
        ("train.global_batch_tokens", earlier.train.global_batch_tokens, config.train.global_batch_tokens),
        ("train.precision", earlier.train.precision, config.train.precision),
    ):
        if before != now:
            raise UserError(
                f"output: {config.output} holds another run: its {key} is {before}, this config's {now}; "
                "choose another output folder"
            )


def _say_shares(config: Config, manifest: Manifest) -> None:
    shares = weight_shares(config, manifest)
    log.info("share of the loss: %s", ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    best = max(config.class_names, key=lambda name: config.class_weights()[config.class_names.index(name)])
    if shares[best] < _LEAST_SHARE:
        log.warning(
            "the class with the highest weight, %s, has only %.1f %% of the loss: give it more weight or repeat it",
            best,
            100 * shares[best],
        )


class _Tracked:
    """The MLflow run and the recorder actor around a training; ends the run however the training ended."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        import ray

        self._config = config
        folder = tracking_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        self.run = Run(tracking_uri(config.tracking.uri, config.output), folder)
        facts = {**manifest.counts, "packs": manifest.packs, "tokens": manifest.tokens, "fill": manifest.fill}
        self.run.start(
            RunSpec(
                experiment=config.tracking.experiment,
                name=Place.of(config.output).name,
                params=config.model_dump(mode="json", by_alias=True),
                dataset=Dataset("shards", manifest.fingerprint, str(shards_folder(config)), facts),
                tags={"fingerprint": manifest.fingerprint},
            )
        )
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        # On the driver's node: that is where the spool and a SQLite database lie.
        actor = ray.remote(num_cpus=0, scheduling_strategy=here)(Recorder)
        self.recorder = actor.remote(self.run.uri, folder)
        self.last_metrics: dict[str, float] = {}

    def __enter__(self) -> _Tracked:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        import ray

        records: list[Record] = ray.get(self.recorder.history_since.remote(0)).records
        for record in records:
            self.last_metrics.update(record.metrics)
        ray.get(self.recorder.close.remote())
        ray.kill(self.recorder)
        self._log_artifacts(records)
        self.run.finish("FINISHED" if kind is None else "FAILED")

    def _log_artifacts(self, records: list[Record]) -> None:
        folder = tracking_folder(self._config)
        plots = plot_curves(records, folder / "curves")
        self.run.log_artifacts(plots, "curves")
        shards, output = shards_folder(self._config), Place.of(self._config.output)
        copies = folder / "artifacts"
        copies.mkdir(exist_ok=True)
        for place in (output / "config.yaml", shards / "manifest.json"):
            (copies / place.name).write_bytes(place.read_bytes())
        self.run.log_artifacts(sorted(copies.iterdir()))


def _fit(job: TrainJob, tracked: _Tracked) -> dict[str, Any]:
    """Runs Ray Train beside a progress display."""
    import ray

    steps = planned_steps(job.config, job.order)
    with ThreadPoolExecutor(1, "crlft-fit") as pool, Progress(steps, job.config.class_names) as progress:
        # Ray Train would take over the signals of the main thread.
        fitting: Future[dict[str, Any]] = pool.submit(_fit_trainer, job)
        while not wait([fitting], timeout=0.5).done:
            latest = ray.get(tracked.recorder.latest.remote())
            progress.show(latest["step"], latest["metrics"])
        latest = ray.get(tracked.recorder.latest.remote())
        progress.show(latest["step"], latest["metrics"])
    done = fitting.result()
    if "failed" in done:
        raise (UserError if done["user_error"] else TrainingFailed)(done["failed"])
    if done["step"] != steps:
        raise TrainingFailed(f"only {done['step']} of {steps} planned steps were run")
    return done


def _fit_trainer(job: TrainJob) -> dict[str, Any]:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    config, output = job.config, Place.of(job.config.output)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=job,
        torch_config=TorchConfig(backend=backend(config), timeout_s=int(config.train.collective_timeout)),
        scaling_config=ScalingConfig(
            num_workers=config.train.workers,
            use_gpu=uses_gpu(config),
            resources_per_worker=worker_resources(config),
        ),
        run_config=RunConfig(
            name=_CHECKPOINTS,
            storage_path=output.path,
            storage_filesystem=output.filesystem,
            failure_config=FailureConfig(max_failures=config.train.max_failures, controller_failure_limit=2),
            checkpoint_config=CheckpointConfig(num_to_keep=config.train.keep),
            logging_config=LoggingConfig(log_level="WARNING"),
            # torch's own deprecations, which DeepSpeed causes at every collective.
            worker_runtime_env={"env_vars": {"PYTHONWARNINGS": "ignore::FutureWarning"}},
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingFailed(_first_cause(error)) from error
    return dict(result.return_value or {})


def _first_cause(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", None)
    if failures:
        rank, cause = next(iter(failures.items()))
        return f"worker {rank}: {str(cause).strip().splitlines()[-1]}"
    return str(error).strip().splitlines()[-1]
