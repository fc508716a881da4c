"""One trial: the very code of `crlft train`, in a process of its own that Ray Tune starts."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any

from crlft_ray.config import Config, validate
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.storage import Place, beneath
from crlft_ray.tracking import Record, Run, deliver
from crlft_ray.training.schedule import order_of, planned_steps
from crlft_ray.training.tracked import tracking_folder
from crlft_ray.training.worker import checkpoints_folder
from crlft_ray.tuning.journal import State
from crlft_ray.tuning.space import with_values


@dataclass(frozen=True)
class Trials:
    """What the trials of a study have in common; pickled to each."""

    config: Config
    """The study's; its output and tracking URI are absolute."""
    shards: str
    parent_run: str | None
    """MLflow run of the study."""
    metric: str
    working_folder: str
    """Of the study's process, which relative paths of the config start from."""
    verified: Place
    """Says which shards are whole, so that no trial reads all of them again."""

    def config_of(self, trial: str, values: dict[str, Any], output: str | None = None) -> Config:
        """A trial's config, which `crlft train` runs as it is: the study's with its values, on its shards."""
        raw = with_values(self.config, values).model_dump(mode="json", by_alias=True)
        del raw["tune"]
        raw["output"] = output or beneath(self.config.output, f"trials/{trial}")
        raw["data"]["shards"] = self.shards
        return validate(raw, f"trial {trial}")

    def ended(self, trial: str, values: dict[str, Any], state: State) -> None:
        """Cleans up after a trial; the process of one that was stopped early could not do it."""
        clean_up(self.config_of(trial, values), state)


def clean_up(config: Config, state: State) -> None:
    """Ends a trial's run in MLflow, and removes checkpoints that nothing goes on from: as large as the training."""
    if state != "failed":
        checkpoints_folder(config).remove()
    if state != "finished":
        end_run(config, state)


def end_run(config: Config, state: State) -> None:
    """Ends the MLflow run of a trial whose process could not."""
    run = Run(config.tracking.uri or "", tracking_folder(config))
    if not run.started:
        return
    # What the process had spooled and could not send.
    deliver(run.uri, run.folder)
    run.finish("FAILED" if state == "failed" else "KILLED")


def run_trial(asked: dict[str, Any], job: Trials) -> dict[str, Any]:
    """Trains, reporting the metric as it is measured; Tune calls it, again after a failure or a restart.

    Returns:
        the last report, with `finished`, which a trial that was stopped early lacks.
    """
    from crlft_ray.training.train import Within, train

    began = time.monotonic()
    os.chdir(job.working_folder)
    config = job.config_of(asked["trial"], asked["values"])
    steps = planned_steps(config, order_of(config, read_manifest(shards_folder(config))))
    reporter = _Reporter(job.metric, steps, config.train.global_batch_tokens)
    try:
        trained = train(config, within=Within(job.parent_run, reporter, job.verified))
    except (UserError, TrainingFailed) as error:
        # Tune keeps the text; its type says nothing to a person.
        raise RuntimeError(str(error)) from None
    found = {"score": trained.metrics.get(job.metric), "se": trained.metrics.get(_error_of(job.metric), math.nan)}
    if found["score"] is None or not math.isfinite(found["score"]):
        found = {name: reporter.last.get(name) for name in found}
    if found["score"] is None:
        raise RuntimeError(f"{job.metric} was never measured, or never a finite number")
    return {
        **found,
        "finished": True,
        "step": trained.steps,
        "steps": steps,
        "tokens": trained.steps * config.train.global_batch_tokens,
        "seconds": time.monotonic() - began,
        "whole": trained.first_step == 0,
        "training_s": reporter.training_s,
        "evaluation_s": reporter.evaluation_s,
        "mlflow_run_id": trained.mlflow_run_id,
        **{name: value for name, value in trained.metrics.items() if name.startswith(("start/", "export/"))},
    }


class _Reporter:
    """Passes a training's metric on to Tune, and adds up where its time went."""

    def __init__(self, metric: str, steps: int, step_tokens: int) -> None:
        self._metric = metric
        self._steps = steps
        self._step_tokens = step_tokens
        self.training_s = self.evaluation_s = 0.0
        self.last: dict[str, Any] = {}
        """What it has reported at last."""

    def __call__(self, records: list[Record]) -> None:
        from ray import tune

        for record in records:
            self.training_s += record.metrics.get("train/step_s", 0.0)
            self.evaluation_s += record.metrics.get("evaluate/seconds", 0.0)
            score = record.metrics.get(self._metric, math.nan)
            # A loss of a class that a step has no token of is no number.
            if math.isfinite(score):
                self.last = {
                    "score": score,
                    "se": record.metrics.get(_error_of(self._metric), math.nan),
                    "step": record.step,
                    "steps": self._steps,
                    "tokens": record.step * self._step_tokens,
                }
                tune.report(self.last)


def _error_of(metric: str) -> str:
    """The name of a metric's standard error; only held-out losses under the own condition have one."""
    kind, _, rest = metric.partition("/")
    name, _, way = rest.partition("/as_")
    return f"heldout_se/{name}" if kind == "heldout" and name == way else ""
