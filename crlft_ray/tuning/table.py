"""A study as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crlft_ray.evaluation.table import print_scores
from crlft_ray.tuning.journal import TrialLog, shown_values
from crlft_ray.tuning.study import Study


def print_study(study: Study, console: Console) -> None:
    """The trials, best first, what a trial costs besides its training, and the finalists' scores."""
    table = Table(title=f"trials by {study.metric} ({study.direction})", title_justify="left")
    for heading in ("trial", "values", "step", "score", "± 1.96 se", "state"):
        table.add_column(heading, justify="right" if heading in ("step", "score", "± 1.96 se") else "left")
    sign = 1 if study.direction == "min" else -1
    for log in sorted(study.trials, key=lambda log: (log.state != "finished", _left(log), sign * log.score)):
        error = log.last.get("se")
        table.add_row(
            log.trial + (" *" if log.trial == study.winner else ""),
            shown_values(log.values),
            str(log.step),
            f"{log.score:.4f}" if log.curve else "–",
            f"{1.96 * error:.4f}" if error else "–",
            log.state if log.state != "failed" else f"failed: {log.error[:60]}",
        )
    console.print(table)
    tokens = sum(log.tokens for log in study.trials)
    console.print(f"{len(study.trials)} trials, {tokens:,} tokens trained on; * is the winner", highlight=False)
    if (overhead := _overhead(study.trials)) is not None:
        console.print(overhead, highlight=False)
    if study.evaluation:
        print_scores(study.evaluation, console)
    if study.registered:
        console.print(study.registered.text(), highlight=False, markup=False)
    command = f"crlft train {study.best_config}   # trains the winner's config by itself"
    console.print(command, highlight=False, soft_wrap=True)


def _left(log: TrialLog) -> float:
    """Share of its steps that a trial that was stopped early has not made."""
    return 0.0 if log.state == "finished" else -log.step / log.last.get("steps", 1)


def _overhead(trials: list[TrialLog]) -> str | None:
    """Means over the trials that ran from their first step to the last without a break."""
    whole = [log.last for log in trials if log.last.get("whole")]
    if not whole:
        return None

    def mean(*names: str) -> float:
        return sum(float(last.get(name) or 0.0) for last in whole for name in names) / len(whole)

    work = mean("training_s", "evaluation_s")
    return (
        f"a whole trial took {mean('seconds'):.1f} s: {mean('training_s'):.1f} s in steps, "
        f"{mean('evaluation_s'):.1f} s in held-out evaluations, {mean('export/seconds'):.1f} s in its export, and "
        f"{mean('seconds') - work - mean('export/seconds'):.1f} s besides (workers up after "
        f"{mean('start/workers_s'):.1f} s, the model ready {mean('start/model_s'):.1f} s later)"
    )
