"""Pictures of scores."""

from __future__ import annotations

import io
from collections.abc import Sequence

from crlft_ray.evaluation.scores import SuiteScore

_Z = 1.96


def score_bars(scores: Sequence[SuiteScore], names: Sequence[str]) -> bytes:
    """A PNG: each task's accuracy as a bar a model, with 95 % intervals and the chance level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(scores[0].tasks)
    labels = [*tasks, "mean"]
    width = 0.8 / len(scores)
    figure = Figure(figsize=(max(7.0, 1.0 + 0.28 * len(labels) * (1 + len(scores))), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (score, name) in enumerate(zip(scores, names, strict=True)):
        places = [place + (number - (len(scores) - 1) / 2) * width for place in range(len(labels))]
        heights = [*(score.tasks[task].score for task in tasks), score.score]
        errors = [_Z * error for error in (*(score.tasks[task].stderr for task in tasks), score.stderr)]
        axes.bar(places, heights, width * 0.92, yerr=errors, label=name, error_kw={"linewidth": 1, "capsize": 2})
    for place, chance in enumerate([*(scores[0].tasks[task].chance for task in tasks), scores[0].chance]):
        label = "_" if place else "chance"
        axes.hlines(chance, place - 0.45, place + 0.45, color="black", linestyle=":", linewidth=1.2, label=label)
    axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_ylabel("accuracy, with 95 % interval")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=len(scores) + 1)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    return picture.getvalue()
