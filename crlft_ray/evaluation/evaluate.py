"""`crlft evaluate`: scores of models side by side, from questions spread over the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from crlft_ray.capacity import wait_for_room
from crlft_ray.errors import UserError
from crlft_ray.evaluation.class_report import HeldoutReport, load_tokenizer
from crlft_ray.evaluation.comparison import Comparison, compare
from crlft_ray.evaluation.contamination import Contamination, contamination
from crlft_ray.evaluation.reports import heldout_reports
from crlft_ray.evaluation.scores import SuiteScore
from crlft_ray.evaluation.scoring import check_condition, score_models
from crlft_ray.evaluation.suites import Half, Suite, load_suites
from crlft_ray.model.find import model_folder
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.storage import Place

DEFAULT_SUITES = ("agieval",)


@dataclass(frozen=True)
class ModelScores:
    """What was found out about one model."""

    model: str
    heldout: HeldoutReport | None
    suites: dict[str, SuiteScore]
    """For a model without conditions the better of its own chat template and none."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "model": self.model,
            "heldout": self.heldout.to_dict() if self.heldout else None,
            "suites": {name: score.to_dict() for name, score in self.suites.items()},
        }

    def metrics(self) -> dict[str, float]:
        """Under the names that MLflow gets."""
        values = {
            f"heldout/{name}/as_{way}": loss
            for name, ways in (self.heldout.losses if self.heldout else {}).items()
            for way, loss in ways.items()
        }
        for gap in self.heldout.steering if self.heldout else []:
            values[f"heldout/{gap.class_name}/steering_gap_{gap.other}"] = gap.gap
        for suite, score in self.suites.items():
            values[f"generalization/{suite}"] = score.score
            values |= {f"generalization/{suite}/{task}": found.score for task, found in score.tasks.items()}
        return values


@dataclass(frozen=True)
class PairComparison:
    """Two of the models on one suite."""

    suite: str
    first: str
    second: str
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {"suite": self.suite, "first": self.first, "second": self.second, **self.comparison.to_dict()}


@dataclass(frozen=True)
class Evaluation:
    """Scores of models, each pair of them compared."""

    models: list[ModelScores]
    comparisons: list[PairComparison]
    suites: list[Suite]
    contamination: list[Contamination]
    """Of each suite, where shards were given."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "models": [scores.to_dict() for scores in self.models],
            "comparisons": [pair.to_dict() for pair in self.comparisons],
            "contamination": [found.to_dict() for found in self.contamination],
        }


def evaluate(
    models: Sequence[str],
    *,
    suites: Sequence[str] = DEFAULT_SUITES,
    shards: str | None = None,
    limit: int | None = None,
    half: Half | None = None,
    heldout: int | None = None,
    condition: str | None = None,
    threads: int = 1,
    output: str = "evaluation",
    tracking_uri: str | None = None,
) -> Evaluation:
    """Scores models, writes report.html and logs both to MLflow.

    Args:
        models: folders, hub ids, fetched names or models:/NAME@ALIAS.
        suites: as `load_suite` takes them.
        shards: shard folder: for its held-out conversations, and to look for the questions in its training data.
        limit: questions per task; None for all.
        half: only the questions of that half; None for both.
        heldout: held-out conversations per class; None for all.
        condition: class whose condition the suites are asked under, or "none"; None for the model's default.
        threads: CPU threads of each worker.
        output: folder for answers, scores and report; what is answered there is not asked again.
        tracking_uri: of MLflow; None for what MLFLOW_TRACKING_URI names, or SQLite in `output`.

    Raises:
        UserError: unknown model or suite, nothing to evaluate on, or an output or `tracking_uri` that cannot be used.
    """
    from crlft_ray.evaluation.html import write_report
    from crlft_ray.evaluation.tracked import address, track
    from crlft_ray.lease import owned

    _check(models, suites, shards, limit, half, condition)
    # Not when all is asked.
    mlflow = address(tracking_uri, output)
    with owned(output):
        place = Place.of(output)
        evaluation = score(
            models, suites=suites, shards=shards, limit=limit, half=half, heldout=heldout, condition=condition,
            threads=threads, folder=place,
        )  # fmt: skip
        files = write_report(evaluation, place)
        track(evaluation, files, output, mlflow)
        return evaluation


def score(
    models: Sequence[str],
    *,
    suites: Sequence[str],
    shards: str | None,
    folder: Place,
    limit: int | None = None,
    half: Half | None = None,
    heldout: int | None = None,
    condition: str | None = None,
    threads: int = 1,
) -> Evaluation:
    """As `evaluate`, without report and tracking; answers are kept in `folder`."""
    loaded = _check(models, suites, shards, limit, half, condition)
    shards_place = Place.of(shards) if shards else None
    from crlft_ray.ray_session import connect

    connect()
    if not wait_for_room({"CPU": float(threads)}, 1):
        raise UserError(f"threads: no node of this cluster has {threads} CPUs for a worker; give fewer threads")
    reports: list[HeldoutReport | None] = [None] * len(models)
    if shards_place:
        reports = list(heldout_reports(models, shards_place, heldout, threads))
    scores = score_models(models, loaded, folder / "answers", condition=condition, threads=threads)
    found = [ModelScores(*each) for each in zip(models, reports, scores, strict=True)]
    dirty = [contamination(shards_place, suite) for suite in loaded] if shards_place else []
    return Evaluation(found, _compared(found, loaded), loaded, dirty)


def _check(
    models: Sequence[str],
    suites: Sequence[str],
    shards: str | None,
    limit: int | None,
    half: Half | None,
    condition: str | None,
) -> list[Suite]:
    """What can be found wrong before anything is written or started."""
    if not suites and shards is None:
        raise UserError("nothing to evaluate on: name a suite, or the shards whose held-out conversations to use")
    if len(set(models)) < len(models):
        raise UserError("a model is given twice; name each once")
    if shards is not None:
        read_manifest(Place.of(shards))
    for model in models:
        load_tokenizer(str(model_folder(model)))
    check_condition(models, condition)
    return load_suites(suites, limit=limit, half=half)


def _compared(scores: Sequence[ModelScores], suites: Sequence[Suite]) -> list[PairComparison]:
    return [
        PairComparison(
            suite.name,
            one.model,
            two.model,
            compare(one.suites[suite.name].answers, two.suites[suite.name].answers),
        )
        for suite in suites
        for one, two in combinations(scores, 2)
    ]


def short_names(models: Sequence[str]) -> list[str]:
    """Models as tables and plots call them."""
    short = ["/".join(Path(model).parts[-2:]) for model in models]
    return short if len(set(short)) == len(short) else list(models)
