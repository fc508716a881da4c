"""report.html: one file with tables, bars, the class matrix and questions on which the models differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.evaluate import Evaluation, ModelScores, short_names
from crlft_ray.evaluation.figures import score_bars
from crlft_ray.evaluation.scores import SuiteScore
from crlft_ray.evaluation.suites import Suite
from crlft_ray.json_text import json_text
from crlft_ray.report.page import picture, render
from crlft_ray.storage import Place

_DIFFERING = 20
_LONGEST = 1_500
"""Characters of a question that are shown; its end, where the question is."""


def write_report(evaluation: Evaluation, folder: Place) -> list[Place]:
    """Writes report.html and scores.json into a folder; returns both."""
    folder.make_folder()
    report, scores = folder / "report.html", folder / "scores.json"
    report.write_text(report_html(evaluation))
    scores.write_text(json_text(evaluation.to_dict(), indent=1) + "\n")
    return [report, scores]


def report_html(evaluation: Evaluation) -> str:
    """The report as one page that loads nothing."""
    names = short_names([scores.model for scores in evaluation.models])
    return render(
        "crlft_ray.evaluation",
        "report.html.jinja",
        names=names,
        models=evaluation.models,
        suites=[_suite(evaluation, suite, names) for suite in evaluation.suites],
        heldout=[(name, _matrix(scores)) for name, scores in zip(names, evaluation.models, strict=True)],
        contamination=evaluation.contamination,
    )


def _suite(evaluation: Evaluation, suite: Suite, names: Sequence[str]) -> dict[str, Any]:
    scores = [scores.suites[suite.name] for scores in evaluation.models]
    named = dict(zip([scores.model for scores in evaluation.models], names, strict=True))
    pairs = [
        (named[pair.first], named[pair.second], pair.comparison)
        for pair in evaluation.comparisons
        if pair.suite == suite.name
    ]
    return {
        "name": suite.name,
        "scores": scores,
        "tasks": list(scores[0].tasks),
        "questions": len(suite.questions),
        "picture": picture(score_bars(scores, names)),
        "pairs": pairs,
        "differing": differing(suite, scores[0], scores[1]) if len(scores) > 1 else [],
    }


def differing(suite: Suite, first: SuiteScore, second: SuiteScore, count: int = _DIFFERING) -> list[dict[str, Any]]:
    """Questions that one of two models got right and the other wrong; from all tasks in turn."""
    texts = {(question.task, question.id): question.text for question in suite.questions}
    theirs = {(answer.task, answer.question): answer for answer in second.answers}
    by_task: dict[str, list[tuple[Answer, Answer]]] = {}
    for one in first.answers:
        two = theirs[one.task, one.question]
        if one.value != two.value:
            by_task.setdefault(one.task, []).append((one, two))
    turns = [pair for row in _in_turn(list(by_task.values())) for pair in row]
    return [
        {
            "task": one.task,
            "text": _end(texts[one.task, one.question]),
            "gold": ", ".join(one.gold),
            "answers": (one, two),
        }
        for one, two in turns[:count]
    ]


def _in_turn(columns: list[list[tuple[Answer, Answer]]]) -> list[list[tuple[Answer, Answer]]]:
    longest = max(map(len, columns), default=0)
    return [[column[place] for column in columns if place < len(column)] for place in range(longest)]


def _end(text: str) -> str:
    return text if len(text) <= _LONGEST else f"… {text[-_LONGEST:]}"


def _matrix(scores: ModelScores) -> dict[str, Any] | None:
    if scores.heldout is None:
        return None
    losses = scores.heldout.losses
    values = [loss for ways in losses.values() for loss in ways.values()]
    low, high = min(values), max(values)

    def shade(loss: float) -> float:
        return 0.0 if high == low else round((loss - low) / (high - low), 3)

    rows = [
        (name, scores.heldout.conversations[name], [(loss, shade(loss)) for loss in ways.values()])
        for name, ways in losses.items()
    ]
    return {"ways": list(next(iter(losses.values()))), "rows": rows, "steering": scores.heldout.steering}
