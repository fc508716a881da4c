"""What an output folder holds from earlier starts, and whether this config continues it."""

from __future__ import annotations

import logging
from typing import Any

from crlft_ray.checkpoints.folder import complete_checkpoints
from crlft_ray.checkpoints.state import RunState
from crlft_ray.config import Config, read_config
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer
from crlft_ray.tracking.spool import Spool
from crlft_ray.training.schedule import order_of, planned_steps
from crlft_ray.training.tracked import remembered, tracking_folder
from crlft_ray.training.worker import checkpoints_folder

log = logging.getLogger(__name__)

_CONFIG = "config.yaml"


def check_earlier(
    config: Config, earlier: Config | None, manifest: Manifest, tokenizer: ChatTokenizer, model_shape: dict[str, Any]
) -> RunState | None:
    """The state that this run goes on from, if any; `earlier` is the folder's config.

    Raises:
        UserError: the folder holds another run; both values are named.
    """
    if earlier is not None:
        _refuse_another(config, earlier)
    complete, damages = complete_checkpoints(checkpoints_folder(config))
    for damage in damages:
        log.warning("%s", damage)
    if not complete:
        return None
    state = complete[0].state
    where = f"output: {config.output} holds a run that has done {state.step} steps"
    for what, before, now in (
        ("on other data", state.fingerprint[:12], manifest.fingerprint[:12]),
        ("with another tokenizer or template", state.tokenizer[:12], tokenizer.digest[:12]),
        ("with a model of another shape", *_differences(state.model_shape, model_shape)),
    ):
        if before != now:
            raise UserError(
                f"{where} {what} ({before}, now {now}); choose another output folder, or start over with --fresh"
            )
    planned = planned_steps(config, order_of(config, manifest))
    if state.step > planned:
        raise UserError(f"train.max_steps: {where}, more than the {planned} that this config plans")
    _say(config, earlier, state, planned)
    return state


def trained_on(config: Config) -> str | None:
    """Fingerprint of the shards that the output's run goes on with; None where no run has a checkpoint there."""
    complete, _ = complete_checkpoints(checkpoints_folder(config))
    return complete[0].state.fingerprint if complete else None


def start_over(config: Config) -> None:
    """Removes what earlier starts left in the output folder, but for the shards, and what is known of them."""
    output = Place.of(config.output)
    names = {"checkpoints", "export", _CONFIG, "result.json", "evaluation"}
    found = [place for place in output.children() if place.name in names] if output.is_folder() else []
    found += remembered(config)
    # The checkpoints last: a removal that is cut short must not look like another run.
    for place in sorted(found, key=lambda place: (place.name == "checkpoints", place.name)):
        place.remove()
    log.info("--fresh: removed %s of the earlier run", ", ".join(place.name for place in found) or "nothing")


def forget_repeated(config: Config, earlier: Config | None, state: RunState | None) -> None:
    """Takes back the metrics of the steps that this run repeats, where the folder's last start took them otherwise.

    That start may have gone on from the same checkpoint with another config, or have come to none; so it is the
    folder's config that says how they were taken, and not the checkpoint's.
    """
    spool = tracking_folder(config) / "metrics.jsonl"
    if earlier is None or not spool.exists():
        return
    if (earlier.train, earlier.evaluate) == (config.train, config.evaluate):
        return
    try:
        opened = Spool(spool)
        opened.rewind(state.step if state else 0)
        opened.close()
    except OSError as error:
        log.warning("tracking: repeated steps keep their first values: %s", error)


def earlier_config(config: Config) -> Config | None:
    """The config that the output folder's run was last given, decided where it said `auto`."""
    place = Place.of(config.output) / _CONFIG
    return read_config(place) if place.exists() else None


def _refuse_another(config: Config, earlier: Config) -> None:
    """An output folder belongs to one run: what a step learns from, and how it counts, must be the same."""
    for key, before, now in (
        ("model", earlier.model, config.model),
        ("template", earlier.template, config.template),
        ("class weights", earlier.class_weights(), config.class_weights()),
        ("train.seed", earlier.train.seed, config.train.seed),
        ("train.global_batch_tokens", earlier.train.global_batch_tokens, config.train.global_batch_tokens),
        ("train.precision", earlier.train.precision, config.train.precision),
        ("train.per_sequence", earlier.train.per_sequence, config.train.per_sequence),
    ):
        if before != now:
            raise UserError(
                f"output: {config.output} holds another run: its {key} is {before}, this config's {now}; "
                "choose another output folder, or start over with --fresh"
            )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return {key: before.get(key) for key in keys}, {key: now.get(key) for key in keys}


def _say(config: Config, earlier: Config | None, state: RunState, planned: int) -> None:
    log.info("%s: going on from step %d of %d", config.output, state.step, planned)
    if earlier is not None:
        before, now = earlier.train.model_dump(), config.train.model_dump()
        for key in now:
            if before.get(key) != now[key]:
                log.info("changed: train.%s %s → %s", key, before.get(key), now[key])
