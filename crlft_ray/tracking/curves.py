"""Pictures of a run's metrics, for whoever has no MLflow page open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.tracking.spool import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[str, list[tuple[int, float]]]


def plot_curves(records: Iterable[Record], folder: Path) -> list[Path]:
    """Writes PNGs of whatever of these was measured: loss, learning rate, speed, weight shares, held-out loss.

    Returns:
        the files written; none where the records have no such metrics.
    """
    series = _series(records)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        _figure(folder / "loss.png", series, [("Training loss", "cross-entropy per learned token", "train/loss")]),
        _figure(
            folder / "learning_rate.png",
            series,
            [("Learning rate", "learning rate", "train/lr"), ("Gradient norm", "L2 norm", "train/grad_norm")],
        ),
        _figure(
            folder / "speed.png",
            series,
            [
                ("Speed", "tokens per second", "train/tokens_per_s"),
                ("Learned tokens per step", "tokens", "train/learned_tokens"),
                ("Memory", "GB", "train/memory_gb"),
            ],
        ),
        _figure(
            folder / "weight_share.png", series, [("Share of each class in the loss", "share", "train/weight_share")]
        ),
        _figure(
            folder / "heldout.png",
            series,
            [("Held-out loss: a class's conversations under a condition", "cross-entropy per token", "heldout")],
        ),
    ]
    return [file for file in files if file is not None]


def _series(records: Iterable[Record]) -> Series:
    points: dict[str, dict[int, float]] = {}
    for record in records:
        for name, value in record.metrics.items():
            points.setdefault(name, {})[record.step] = value
    return {name: sorted(values.items()) for name, values in points.items()}


def _figure(path: Path, series: Series, panels: Sequence[tuple[str, str, str]]) -> Path | None:
    """One picture with a panel for each (title, unit, metric) that was measured; a metric brings those below it."""
    shown = [
        (title, unit, metric, names)
        for title, unit, metric in panels
        if (names := [name for name in series if name == metric or name.startswith(f"{metric}/")])
    ]
    if not shown:
        return None
    # The figure's own canvas, not pyplot: no global state, so it works in any thread and without a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 3.4 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (title, unit, metric, names) in zip(all_axes, shown, strict=True):
        _panel(axes, metric, {name: series[name] for name in names})
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_ylabel(unit)
        axes.set_xlabel("optimizer step")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.ticklabel_format(axis="y", scilimits=(-3, 5))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        # Beside the picture, where it hides no curve; alone, a curve is what the title says.
        if len(names) > 1 or axes.get_legend_handles_labels()[1]:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    part = path.with_name(f"{path.name}.part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
    return path


def _panel(axes: Axes, metric: str, series: Series) -> None:
    broken: set[int] = set()
    for name, points in series.items():
        label = "all classes" if name == metric == "train/loss" else name.removeprefix(f"{metric}/")
        steps = [step for step, _ in points]
        values = [value if math.isfinite(value) else math.nan for _, value in points]
        broken.update(step for step, value in points if not math.isfinite(value))
        style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(points) < 60 else {}
        if name == "train/loss":
            # Behind the classes: where one of them makes up most of the loss, the two curves lie on each other.
            style |= {"color": "0.65", "linewidth": 3.5, "zorder": 1}
        axes.plot(steps, values, label=label if len(series) > 1 else None, **{"linewidth": 1.3, **style})
    for number, step in enumerate(sorted(broken)):
        axes.axvline(step, color="crimson", linestyle=":", linewidth=1, label=None if number else "not finite")
    if metric == "train/weight_share":
        axes.set_ylim(0, 1.02)
