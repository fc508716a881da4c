"""What every benchmark does with its figures: a table, the bars, a JSON file and a plot under runs/benchmarks/."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "runs" / "benchmarks"


@dataclass(frozen=True)
class Bar:
    """A figure and the bound that it has to keep."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign, verdict = "≥" if self.at_least else "≤", "met" if self.met else "NOT met"
        return f"{self.what}: {self.value:.4g} (bar {sign} {self.bound:g}: {verdict})"


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each row."""
    return {name: statistics.median(values) for name, values in found.items()}


def report(
    name: str,
    title: str,
    unit: str,
    found: Mapping[str, Sequence[float]],
    bars: Sequence[Bar] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Prints median, min and max of each row and every bar, and writes `<name>.json` and `<name>.png`.

    Args:
        found: for each row its runs, in `unit`.
        more: further figures for the JSON file.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}, {unit}", title_justify="left")
    for heading in ("", "median", "min", "max", "runs"):
        table.add_column(heading, justify="right")
    for row, values in found.items():
        figures = [shown(f(values)) for f in (statistics.median, min, max)]
        table.add_row(row, *figures, str(len(values)))
    console = Console()
    console.print(table)
    for bar in bars:
        console.print(str(bar), highlight=False, soft_wrap=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "unit": unit, "found": found, "bars": [asdict(bar) | {"met": bar.met} for bar in bars]}
    (FOLDER / f"{name}.json").write_text(json.dumps({**content, **(more or {})}, indent=1) + "\n")
    _plot(FOLDER / f"{name}.png", f"{title}, {unit}", found)
    console.print(f"{FOLDER / name}.json and .png", highlight=False, soft_wrap=True)


def shown(value: float) -> str:
    """Three figures, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plot(path: Path, title: str, found: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.4 * len(found) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    middle = medians(found)
    places = [-place for place in range(len(found))]
    reach = [
        [middle[row] - min(values) for row, values in found.items()],
        [max(values) - middle[row] for row, values in found.items()],
    ]
    axes.barh(places, list(middle.values()), 0.6, xerr=reach, error_kw={"capsize": 3})
    axes.set_yticks(places, list(found))
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
