"""The ablation as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crlft_ray.ablation.paired import Interval
from crlft_ray.ablation.results import Ablation


def print_ablation(ablation: Ablation, console: Console) -> None:
    """Accuracy of each row, and how far C-RLFT is ahead."""
    title = f"exact match on {ablation.split} problems, {ablation.seeds} seed(s), 95 % intervals"
    table = Table(title=title, title_justify="left")
    for heading in (
        "row",
        "in distribution",
        "C-RLFT − row",
        "out of distribution",
        "C-RLFT − row",
        "learned/step",
        "paper",
    ):
        table.add_column(heading, justify="left" if heading == "row" else "right")
    for row in ablation.all_rows():
        itself = row.name == row.against
        table.add_row(
            row.name,
            _plain(row.scores["in"]),
            "" if itself else _signed(row.behind["in"]),
            _plain(row.scores["out"]),
            "" if itself else _signed(row.behind["out"]),
            f"{row.learned_tokens:.0f}",
            "" if row.paper is None else f"{row.paper:.1f}",
        )
    console.print(table)
    console.print(_slips(ablation))
    console.print(f"{ablation.seconds_per_row:.0f} s a row; {ablation.output}/report.html has the rest", soft_wrap=True)


def _slips(ablation: Ablation) -> Table:
    """Who has learned more than the sub-optimal source knows."""
    table = Table(title="in distribution, where the sub-optimal source is wrong", title_justify="left")
    for heading in ("row", "right", "C-RLFT − row", "its very mistake", "C-RLFT − row"):
        table.add_column(heading, justify="left" if heading == "row" else "right")
    for row in ablation.all_rows():
        itself = row.name == row.against
        table.add_row(
            row.name,
            _plain(row.scores["slips"]),
            "" if itself else _signed(row.behind["slips"]),
            _plain(row.scores["repeated"]),
            "" if itself else _signed(row.behind["repeated"]),
        )
    return table


def _plain(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
