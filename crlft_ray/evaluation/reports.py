"""Held-out reports of several models, each computed where the cluster has room for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from crlft_ray.config.paths import absolute_model
from crlft_ray.errors import UserError
from crlft_ray.evaluation.asking.pool import asker_resources
from crlft_ray.evaluation.class_report import HeldoutReport, heldout_report
from crlft_ray.model.find import model_folder
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.storage import Place
from crlft_ray.tracking import mlflow_environment


def heldout_reports(models: Sequence[str], shards: Place, per_class: int | None, threads: int) -> list[HeldoutReport]:
    """`heldout_report` of each model, on what those who ask the suites' questions have: a GPU, or `threads` CPUs.

    Ray must be connected.

    Raises:
        UserError: a model cannot be measured.
    """
    items = [(absolute_model(model), shards, per_class, threads, mlflow_environment()) for model in models]
    resources, _ = asker_resources(threads)
    if not resources.get("num_gpus"):
        return run_tasks(_report, items, num_cpus=threads)
    import ray

    # Also for a single model: this process has no GPU of its own. One that has had a GPU ends with its task, so that
    # the GPU's memory is free for the next one.
    task: Any = ray.remote(max_calls=1, **resources)(_report_or_error)
    found: list[HeldoutReport | UserError] = ray.get([task.remote(*item) for item in items])
    reports = []
    for report in found:
        if isinstance(report, UserError):
            raise report
        reports.append(report)
    return reports


def _report(
    model: str, shards: Place, per_class: int | None, threads: int, environment: dict[str, str]
) -> HeldoutReport:
    # A model of the registry is fetched here.
    os.environ.update(environment)
    return heldout_report(str(model_folder(model)), shards, per_class, threads)


def _report_or_error(*item: Any) -> HeldoutReport | UserError:
    try:
        return _report(*item)
    except UserError as error:
        # Raised, it would come back wrapped and with a trace.
        return error
