"""Pictures of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.tuning.journal import State, TrialLog
from crlft_ray.tuning.space import Domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Z = 1.96
_STATES: Mapping[State, tuple[str, str]] = {
    "finished": ("o", "C0"), "stopped early": ("v", "0.6"), "failed": ("x", "C3"), "running": ("s", "C2"),
}  # fmt: skip
"""Marker and colour; one that still "runs" was cut off by the study's budget."""


def plot_study(
    logs: Sequence[TrialLog], space: Mapping[str, Domain], metric: str, direction: str, folder: Path
) -> list[Path]:
    """Writes the pictures of whatever has been measured: score against each key, history, learning curves.

    Args:
        logs: the trials in their order.
        space: the keys that were searched.
        metric: what the trials are compared on.
        direction: "min" or "max".
        folder: where the PNGs go.

    Returns:
        the files; none without a measurement.
    """
    shown = [log for log in logs if log.curve]
    if not shown:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = [_against(shown, key, domain, metric, folder) for key, domain in space.items()]
    return [*files, _history(shown, metric, direction, folder), _curves(shown, space, metric, folder)]


def _against(logs: Sequence[TrialLog], key: str, domain: Domain, metric: str, folder: Path) -> Path:
    figure, axes = _figure()
    numeric = all(map(_is_number, domain.values))
    labels = sorted({str(log.values[key]) for log in logs})
    for state, chosen in _by_state(logs).items():
        marker, colour = _STATES[state]
        places = [log.values[key] if numeric else labels.index(str(log.values[key])) for log in chosen]
        axes.errorbar(
            places, [log.score for log in chosen], yerr=[_Z * _error(log) for log in chosen], fmt=marker, color=colour,
            capsize=3, label=_label(state),
        )  # fmt: skip
    if domain.kind == "loguniform":
        axes.set_xscale("log")
    if domain.kind in ("loguniform", "uniform"):
        axes.set_xlim(*_limits(domain))
    if not numeric:
        axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(key)
    axes.set_ylabel(f"{metric}, 95 % interval" if any(math.isfinite(_error(log)) for log in logs) else metric)
    axes.set_title("Each trial's last measurement", loc="left", fontweight="bold")
    axes.legend(frameon=False)
    return _save(figure, folder / f"{key.replace('/', '_')}.png")


def _history(logs: Sequence[TrialLog], metric: str, direction: str, folder: Path) -> Path:
    figure, axes = _figure()
    logs = sorted(logs, key=_number)
    for state, chosen in _by_state(logs).items():
        marker, colour = _STATES[state]
        axes.plot(
            [_number(log) for log in chosen], [log.score for log in chosen], marker, color=colour, label=_label(state)
        )
    better = min if direction == "min" else max
    best: list[float] = []
    for log in logs:
        so_far, done = best[-1] if best else math.nan, log.state == "finished"
        best.append(log.score if done and math.isnan(so_far) else better(so_far, log.score) if done else so_far)
    axes.step([_number(log) for log in logs], best, where="post", color="C1", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.set_title("History of the study", loc="left", fontweight="bold")
    axes.set_xlim(_number(logs[0]) - 0.5, _number(logs[-1]) + 0.5)
    axes.legend(frameon=False)
    return _save(figure, folder / "history.png")


def _curves(logs: Sequence[TrialLog], space: Mapping[str, Domain], metric: str, folder: Path) -> Path:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    figure, axes = _figure()
    key = next((key for key, domain in space.items() if all(map(_is_number, domain.values))), None)
    colours = colormaps["viridis"]
    norm: Any = None
    if key is not None:
        norm = (LogNorm if space[key].kind == "loguniform" else Normalize)(*_limits(space[key]))
    for number, log in enumerate(logs):
        colour = colours(norm(float(log.values[key]))) if key is not None else f"C{number % 10}"
        steps, scores = zip(*log.curve, strict=True)
        axes.plot(steps, scores, color=colour, marker="o", markersize=3, linewidth=1.3)
        if log.state != "finished":
            axes.plot(steps[-1], scores[-1], _STATES[log.state][0], color=colour, markersize=8)
    if key is not None:
        figure.colorbar(ScalarMappable(norm, colours), ax=axes, label=key)
    axes.set_xlabel("optimizer step (▼ stopped early, × failed, ■ cut off by the budget)")
    axes.set_ylabel(metric)
    axes.set_title("Learning curves of all trials", loc="left", fontweight="bold")
    return _save(figure, folder / "curves.png")


def _by_state(logs: Sequence[TrialLog]) -> dict[State, list[TrialLog]]:
    found = {state: [log for log in logs if log.state == state] for state in _STATES}
    return {state: chosen for state, chosen in found.items() if chosen}


def _label(state: State) -> str:
    return "cut off by the budget" if state == "running" else state


def _error(log: TrialLog) -> float:
    """The metric's standard error; NaN where it has none."""
    return float(log.last.get("se") or math.nan)


def _number(log: TrialLog) -> int:
    return int(log.trial)


def _limits(domain: Domain) -> tuple[float, float]:
    """The whole domain, whatever part of it was tried, and a little on both sides."""
    low, high = float(min(domain.values)), float(max(domain.values))
    if domain.kind == "loguniform":
        return low / 1.1, high * 1.1
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure() -> tuple[Figure, Axes]:
    # The figure's own canvas, not pyplot: no global state, so it works in any thread and without a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    part = path.with_name(f"{path.name}.part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
    return path
