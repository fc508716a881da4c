"""`crlft train`: from shards to a tracked, exported model, driven by Ray Train."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from typing import Any

from crlft_ray.background import in_background
from crlft_ray.checkpoints.state import RunState
from crlft_ray.config import Config, dump_config, with_absolute_paths
from crlft_ray.device import with_precision
from crlft_ray.diagnosis.ready import refuse_unready
from crlft_ray.errors import UserError
from crlft_ray.json_text import json_text
from crlft_ray.lease import Lease, owned
from crlft_ray.model.shape import model_config, model_shape
from crlft_ray.shards.manifest import MANIFEST, Manifest, read_manifest
from crlft_ray.shards.prepare import chat_tokenizer, model_path, shards_folder
from crlft_ray.shards.verify import VERIFIED, verify_shards
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer
from crlft_ray.tracking import Record, tracking_uri
from crlft_ray.training.cluster import check_capacity, worker_resources
from crlft_ray.training.earlier import check_earlier, earlier_config, forget_repeated, start_over
from crlft_ray.training.fit import fit
from crlft_ray.training.schedule import peak_lr, weight_shares
from crlft_ray.training.tracked import Tracked, tracking_folder
from crlft_ray.training.worker import TrainJob

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class _Parts:
    """What a run is made of, checked."""

    manifest: Manifest
    tokenizer: ChatTokenizer
    model_shape: dict[str, Any]
    earlier: RunState | None
    """What it goes on from."""
    earlier_config: Config | None
    """What the output folder was last given."""
    fresh: bool
    """Whether what earlier starts left is to be removed."""


@dataclass(frozen=True)
class Within:
    """What a run that is a trial of a study has besides its config."""

    parent_run: str | None
    """MLflow run of the study."""
    on_records: Callable[[list[Record]], None]
    """Is given all metrics of the run in their order, while it runs."""
    verified: Place | None = None
    """File of the study that says which of its shards are whole (`verify_shards`); None for one of the run's own."""


def train(config: Config, *, fresh: bool = False, within: Within | None = None) -> Trained:
    """Trains on the prepared shards, or goes on from the output's newest checkpoint, and exports the model.

    Args:
        fresh: start over; what earlier runs left in the output folder is removed, but for the shards, once it is clear
            that the new run can begin.
        within: the study that this run is a trial of.

    Raises:
        UserError: shards, model, output folder or cluster do not fit the config, or another run owns the folder.
        Stopped: SIGTERM or SIGINT came, a checkpoint was written.
        TrainingFailed: the run could not go on.
    """
    asked_at = time.time()
    config = with_absolute_paths(config)
    read_manifest(shards_folder(config))
    with owned(config.output) as lease:
        if (tracking_folder(config) / "study").exists():
            raise UserError(f"output: {config.output} holds a study; give the training a folder of its own")
        # Nothing is removed before all else is known to be right: until then a fresh start only looks away.
        earlier = None if fresh else earlier_config(config)
        config = with_precision(config, earlier)
        parts = _connected_and_checked(config, earlier, fresh)
        return _train(config, parts, lease, within, asked_at)


def _connected_and_checked(config: Config, earlier: Config | None, fresh: bool) -> _Parts:
    """Both at once: Ray waits for its processes while what is checked waits for imports."""
    from crlft_ray.ray_session import connect

    checking = in_background(lambda: _check(config, earlier, fresh), "crlft-check")
    try:
        connect()
    finally:
        # A process does not end in the middle of an import.
        wait([checking])
    return checking.result()


def _train(config: Config, parts: _Parts, lease: Lease, within: Within | None, asked_at: float) -> Trained:
    shards, output = shards_folder(config), Place.of(config.output)
    check_capacity(config)
    refuse_unready(
        {"data.shards" if config.data.shards else "output": shards / MANIFEST}, config.model, worker_resources(config)
    )
    # The last of the checks: it may have to read all shards, and leaves a file.
    theirs = within.verified if within else None
    verify_shards(shards, parts.manifest, theirs or Place.of(tracking_folder(config)) / VERIFIED)
    if parts.fresh:
        start_over(config)
    forget_repeated(config, parts.earlier_config, parts.earlier)
    # It says how all that is measured from now on was learned.
    (output / "config.yaml").write_text(dump_config(config))
    _say_shares(config, parts.manifest)
    run_id = parts.earlier.mlflow_run_id if parts.earlier else None
    with Tracked(config, parts.manifest, run_id, within.parent_run if within else None) as tracked:
        job = TrainJob(
            config=config,
            manifest=parts.manifest,
            shards=shards,
            export=output / "export",
            tokenizer=parts.tokenizer,
            peak_lr=peak_lr(config, parts.manifest),
            model_shape=parts.model_shape,
            channel=tracked.channel,
            asked_at=asked_at,
        )
        done = fit(job, lease, tracked.begin, within.on_records if within else None)
    trained = Trained(
        output=str(output),
        export=str(job.export),
        steps=done["step"],
        first_step=done["first_step"],
        packs_consumed=done["packs_consumed"],
        skipped_not_finite=done["not_finite"],
        skipped_no_weight=done["no_weight"],
        fingerprint=parts.manifest.fingerprint,
        mlflow_run_id=tracked.run.run_id,
        tracking_uri=tracked.run.uri,
        metrics=tracked.last_metrics,
    )
    (output / "result.json").write_text(json_text(asdict(trained), indent=2) + "\n")
    return trained


def _check(config: Config, earlier: Config | None, fresh: bool) -> _Parts:
    """Everything that can be found wrong before a worker starts."""
    shape = model_shape(model_config(model_path(config), config.data.context))
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
    state = None if fresh else check_earlier(config, earlier, manifest, tokenizer, shape)
    return _Parts(manifest, tokenizer, shape, state, earlier, fresh)


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
