"""Pictures of the ablation, as PNGs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crlft_ray.ablation.hidden_map import Points
from crlft_ray.ablation.results import Measure, RowResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHERE: tuple[tuple[Measure, str], ...] = (("in", "in distribution"), ("out", "out of distribution"))


def row_bars(rows: Sequence[RowResult]) -> bytes:
    """Accuracy of each row."""
    bars = [(row.name, row.scores) for row in rows]
    figure, (axes,) = _figure(1, height=0.55 * len(bars) + 1.2)
    for number, (where, label) in enumerate(_WHERE):
        found = [intervals[where] for _, intervals in bars]
        places = [-(place + (number - 0.5) * 0.38) for place in range(len(bars))]
        errors = [[each.mean - each.low for each in found], [each.high - each.mean for each in found]]
        axes.barh(places, [each.mean for each in found], 0.36, xerr=errors, label=label, error_kw={"capsize": 2})
    axes.set_yticks([-place for place in range(len(bars))], [name for name, _ in bars])
    axes.set_xlabel("exact match of greedy answers, 95 % interval")
    axes.legend(frameon=False)
    return _png(figure)


def curves(title: str, axis: str, rows: Sequence[RowResult], *, logarithmic: bool) -> bytes:
    """Accuracy of each kind of row along an axis."""
    kinds: dict[str, list[RowResult]] = {}
    for row in rows:
        kinds.setdefault(row.name.partition(", ")[0], []).append(row)
    figure, all_axes = _figure(2)
    for axes, (where, label) in zip(all_axes, _WHERE, strict=True):
        for name, points in kinds.items():
            points = sorted(points, key=lambda row: row.place or 0.0)
            places = [row.place or 0.0 for row in points]
            found = [row.scores[where] for row in points]
            line = axes.plot(places, [each.mean for each in found], marker="o", markersize=4, label=name)
            lows, highs = [each.low for each in found], [each.high for each in found]
            axes.fill_between(places, lows, highs, alpha=0.15, color=line[0].get_color())
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlabel(axis)
        axes.set_title(f"{title}, {label}", loc="left", fontsize=10)
    all_axes[0].set_ylabel("exact match")
    all_axes[0].legend(frameon=False)
    return _png(figure)


def hidden_maps(maps: Mapping[str, Mapping[str, Points]], classes: Sequence[str]) -> bytes:
    """For each model and each projection the conversations, coloured by class."""
    names = sorted(set(classes))
    panels = [(f"{model}, {kind}", points) for model, kinds in maps.items() for kind, points in kinds.items()]
    figure, all_axes = _figure(len(panels), height=3.4)
    for axes, (title, points) in zip(all_axes, panels, strict=True):
        for name in names:
            chosen = [number for number, each in enumerate(classes) if each == name]
            axes.scatter(points[chosen, 0], points[chosen, 1], s=5, alpha=0.6, label=name)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
    all_axes[0].legend(frameon=False, markerscale=2)
    return _png(figure)


def _figure(panels: int, height: float = 4.0) -> tuple[Figure, Sequence[Axes]]:
    # The figure's own canvas, not pyplot: no global state, so it works in any thread and without a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 if panels < 3 else 3.2 * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, panels, squeeze=False)[0]
    for axes in all_axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(all_axes)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()
