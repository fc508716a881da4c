"""Prints scores side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from crlft_ray.evaluation.evaluate import Evaluation, ModelScores, short_names
from crlft_ray.evaluation.scores import SuiteScore


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Held-out loss by class and condition, then each suite by task with standard errors, chance and comparisons."""
    scores = evaluation.models
    names = short_names([score.model for score in scores])
    if any(score.heldout for score in scores):
        _print_heldout(scores, names, console)
    for suite in dict.fromkeys(suite for score in scores for suite in score.suites):
        _print_suite(suite, [(name, score.suites[suite]) for name, score in zip(names, scores, strict=True)], console)
        _print_comparisons(evaluation, suite, dict(zip([s.model for s in scores], names, strict=True)), console)
    for found in evaluation.contamination:
        console.print(
            f"{found.suite}: {found.overlapping} of {found.questions} questions share 13 words in a row with the "
            f"training data, {len(found.occurring)} are in it as a whole",
            highlight=False,
        )


def _print_heldout(scores: Sequence[ModelScores], names: Sequence[str], console: Console) -> None:
    table = Table(title="Held-out loss per content token (lower is better)", title_justify="left")
    for heading in ("model", "put as"):
        table.add_column(heading)
    classes = list(next(score.heldout.losses for score in scores if score.heldout))
    for name in classes:
        table.add_column(f"class {name}", justify="right")
    for model, score in zip(names, scores, strict=True):
        if score.heldout:
            for way in next(iter(score.heldout.losses.values())):
                table.add_row(model, way, *(f"{score.heldout.losses[name][way]:.3f}" for name in classes))
    console.print(table)
    for model, score in zip(names, scores, strict=True):
        for gap in score.heldout.steering if score.heldout else []:
            console.print(
                f"{model}: conversations of class {gap.class_name} under the condition of {gap.other} instead of "
                f"their own: {gap.gap:+.4f} [95 % interval {gap.low:+.4f} to {gap.high:+.4f}]",
                highlight=False,
            )


def _print_suite(suite: str, scores: Sequence[tuple[str, SuiteScore]], console: Console) -> None:
    table = Table(title=f"{suite}: accuracy ± standard error (* at chance)", title_justify="left")
    table.add_column("task")
    for name, score in scores:
        table.add_column(f"{name}\n({score.way})", justify="right")
    table.add_column("chance", justify="right")
    table.add_column("questions", justify="right")
    first = scores[0][1]
    for task, found in first.tasks.items():
        cells = [_cell(score.tasks[task].score, score.tasks[task].stderr, score.tasks[task].at_chance)
                 for _, score in scores]  # fmt: skip
        table.add_row(task, *cells, f"{found.chance:.3f}", str(found.questions))
    table.add_section()
    cells = [_cell(score.score, score.stderr, score.at_chance) for _, score in scores]
    table.add_row("mean", *cells, f"{first.chance:.3f}", str(sum(task.questions for task in first.tasks.values())))
    table.add_row("all questions", *(f"{score.score_by_question:.3f}          " for _, score in scores))
    console.print(table)
    if all(score.at_chance for _, score in scores):
        console.print(f"All of them are at chance on {suite}: it shows no difference between these models.")


def _cell(score: float, stderr: float, at_chance: bool) -> str:
    return f"{score:.3f} ± {stderr:.3f}{' *' if at_chance else '  '}"


def _print_comparisons(evaluation: Evaluation, suite: str, names: dict[str, str], console: Console) -> None:
    for pair in evaluation.comparisons:
        if pair.suite == suite:
            found = pair.comparison
            console.print(
                f"{names[pair.first]} - {names[pair.second]}: {found.difference:+.4f} [95 % interval {found.low:+.4f} "
                f"to {found.high:+.4f}], p = {found.p_value:.4f} (one-sided, paired permutation test)",
                highlight=False,
            )
