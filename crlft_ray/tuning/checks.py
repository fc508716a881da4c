"""What can be found wrong with a study before a trial runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crlft_ray.capacity import wait_for_room
from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.json_text import json_text
from crlft_ray.shards.manifest import Manifest
from crlft_ray.tracking.spool import replace_text
from crlft_ray.training.cluster import worker_resources
from crlft_ray.training.schedule import order_of, planned_steps
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.tuning.space import Domain, with_values

_STUDY = "study.json"
_SIZES = ("train.workers", "train.threads_per_worker", "train.resources_per_worker.")
_MEASUREMENTS = 9
"""Of the held-out loss in a trial, where the config does not say how often; ASHA's rungs are at 1/9, 1/3 and all."""


def metric_of(config: Config) -> str:
    """The study's metric.

    Raises:
        UserError: no training reports it.
    """
    best = config.infer_as
    metric = config.tune.metric or f"heldout/{best}/as_{best}"
    names = config.class_names
    known = [
        *(f"heldout/{name}/as_{other}" for name in names for other in names),
        "train/loss",
        *(f"train/loss/{name}" for name in names),
        "train/grad_norm",
        "train/tokens_per_s",
        "train/memory_gb",
    ]
    if metric not in known:
        raise UserError(f"tune.metric: no training reports '{metric}'; it can be one of {', '.join(known)}")
    return metric


def measured(config: Config, manifest: Manifest) -> Config:
    """The config with held-out evaluations in the training, where it has none.

    Raises:
        UserError: there is nothing held out to measure on.
    """
    metric = metric_of(config)
    if metric.startswith("heldout/"):
        name = metric.split("/")[1]
        (counts,) = [counts for counts in manifest.classes if counts.name == name]
        if not counts.held_out:
            raise UserError(
                f"tune.metric: {metric} needs held-out conversations of class '{name}', and there are none; "
                "raise data.holdout, or choose another tune.metric"
            )
    if config.evaluate.every:
        return config
    every = -(-planned_steps(config, order_of(config, manifest)) // _MEASUREMENTS)
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"every": every})})


def check_room(config: Config, space: Mapping[str, Domain]) -> None:
    """Whether the cluster holds the trials that are to run at once, also the largest of the space.

    Raises:
        UserError: it does not.
    """
    largest = {
        key: max(domain.values)
        for key, domain in space.items()
        if key.startswith(_SIZES) and all(isinstance(value, int | float) for value in domain.values)
    }
    config = with_values(config, largest)
    resources = worker_resources(config)
    wanted = config.tune.at_once * config.train.least_workers
    room = wait_for_room(resources, wanted)
    if wanted > room:
        raise UserError(
            f"tune.at_once: {config.tune.at_once} trials of {config.train.least_workers} workers each do not fit: the "
            f"cluster has room for {room} workers; lower tune.at_once or train.workers, or add nodes"
        )


def check_no_training(config: Config) -> None:
    """A study and a training would go on with each other's run in MLflow.

    Raises:
        UserError: the output folder holds a training.
    """
    tracking = tracking_folder(config)
    if (tracking / "run.json").exists() and not (tracking / "study").exists():
        raise UserError(f"output: {config.output} holds a training; give the study a folder of its own")


def check_same_study(now: dict[str, Any], folder: Path, output: str, remedy: str = "") -> None:
    """Remembers what the study is, or compares it with what it was when it began.

    Args:
        now: whatever decides what it finds.
        folder: local folder of the study's files.
        output: as messages name it.
        remedy: what else helps than another output.

    Raises:
        UserError: the folder holds another study.
    """
    place = folder / _STUDY
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(place, json_text(now, indent=2))
        return
    before = json.loads(place.read_text(encoding="utf-8"))
    for key, one, two in _differences(before, json.loads(json_text(now))):
        raise UserError(
            f"output: {output} holds another study: its {key} is {one}, now it would be {two}; choose another output"
            f"{remedy}"
        )


def studied_on(folder: Path) -> str | None:
    """Fingerprint of the shards that the study of a folder goes on with, if there is one."""
    place = folder / _STUDY
    return str(json.loads(place.read_text(encoding="utf-8"))["shards"]) if place.exists() else None


def identity(config: Config, fingerprint: str) -> dict[str, Any]:
    """What decides what a study finds: not where, how long or how wide it runs, or what happens to the winner."""
    raw = config.model_dump(mode="json", by_alias=True)
    del raw["tune"]["budget"], raw["tune"]["at_once"], raw["tune"]["finalists"]
    del raw["evaluate"]["suites"], raw["evaluate"]["limit"]
    del raw["train"]["max_failures"], raw["train"]["collective_timeout"], raw["train"]["keep"]
    del raw["output"], raw["register"], raw["tracking"]
    return {"shards": fingerprint, "config": raw}


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            found
            for name in {**before, **now}
            for found in _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if before == now else [(key.removeprefix("config."), before, now)]
