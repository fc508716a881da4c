"""`crlft evaluate`: scores of models side by side, worked out as Ray tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crlft_ray.assets import asset_path
from crlft_ray.errors import UserError
from crlft_ray.evaluation.agieval import score_agieval
from crlft_ray.evaluation.report import HeldoutReport, heldout_report, load_tokenizer, takes_condition
from crlft_ray.evaluation.suite import SuiteScore, best_score
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.storage import Place
from crlft_ray.training.cluster import room_for

SUITES = ("agieval",)


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
        for suite, score in self.suites.items():
            values[f"generalization/{suite}"] = score.score
            values |= {f"generalization/{suite}/{task}": found.score for task, found in score.tasks.items()}
        return values


def evaluate(
    models: Sequence[str],
    *,
    suites: Sequence[str] = SUITES,
    shards: str | None = None,
    limit: int | None = None,
    heldout: int | None = None,
    condition: str | None = None,
    threads: int = 1,
) -> list[ModelScores]:
    """Scores models on suites, and on the held-out conversations of a shard folder.

    Args:
        models: folders, hub ids or fetched names.
        suites: benchmarks; each by log-likelihood of the answers' letters.
        shards: shard folder whose held-out conversations are used; None for none.
        limit: questions per task; None for all.
        heldout: held-out conversations per class; None for all.
        condition: text the suites are asked under; None for the model's default.
        threads: CPU threads of each task.

    Raises:
        UserError: unknown model or suite, or nothing to evaluate on.
    """
    for suite in suites:
        if suite not in SUITES:
            raise UserError(f"suite: '{suite}' is not one of {', '.join(SUITES)}")
    if not suites and shards is None:
        raise UserError("nothing to evaluate on: name a suite, or the shards whose held-out conversations to use")
    folder = Place.of(shards) if shards else None
    if folder:
        read_manifest(folder)
    paths = [_model(model) for model in models]
    questions = {suite: asset_path(suite) for suite in suites}
    from crlft_ray.ray_session import connect

    connect()
    if not room_for({"CPU": threads}):
        raise UserError(f"threads: no node of this cluster has {threads} CPUs for a task; give fewer threads")
    parts: list[tuple[Any, ...]] = []
    for path in paths:
        if folder:
            parts.append(("heldout", path, folder, heldout, threads))
        ways = ("template",) if takes_condition(path) else ("template", "none")
        parts += [
            ("suite", path, suite, way, questions[suite], limit, condition, threads)
            for suite in suites
            for way in ways
            if way == "none" or _has_template(path)
        ]
    found = run_tasks(_part, [(part,) for part in parts], num_cpus=threads)
    return [_collected(model, path, parts, found) for model, path in zip(models, paths, strict=True)]


def _part(part: tuple[Any, ...]) -> HeldoutReport | SuiteScore:
    kind, path, *rest = part
    if kind == "heldout":
        return heldout_report(path, *rest)
    _, way, questions, limit, condition, threads = rest
    asked = condition if way == "template" else None
    return score_agieval(Path(path), questions, chat=way, condition=asked, limit=limit, threads=threads)


def _collected(model: str, path: str, parts: Sequence[tuple[Any, ...]], found: Sequence[Any]) -> ModelScores:
    mine = [(part, result) for part, result in zip(parts, found, strict=True) if part[1] == path]
    reports = [result for part, result in mine if part[0] == "heldout"]
    by_suite: dict[str, list[SuiteScore]] = {}
    for part, result in mine:
        if part[0] == "suite":
            by_suite.setdefault(part[2], []).append(result)
    return ModelScores(
        model, reports[0] if reports else None, {suite: best_score(scores) for suite, scores in by_suite.items()}
    )


def _model(model: str) -> str:
    fetched = asset_path(model)
    path = Path(fetched or model)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"{model}: no model in this folder (no config.json)")
        return str(path)
    if model.startswith((".", "/")) or model.count("/") > 1:
        raise UserError(f"{model}: no such model folder")
    return model


def _has_template(path: str) -> bool:
    return bool(load_tokenizer(path).chat_template)
