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
    for row in ablation.rows:
        table.add_row(
            row.name,
            _plain(row.accuracy["in"]),
            _signed(row.behind["in"]) if row.name != row.against else "",
            _plain(row.accuracy["out"]),
            _signed(row.behind["out"]) if row.name != row.against else "",
            f"{row.learned_tokens:.0f}",
            "" if row.paper is None else f"{row.paper:.1f}",
        )
    if ablation.wrong_condition:
        table.add_row(
            "C-RLFT, asked as the sub-optimal class",
            _plain(ablation.wrong_condition["in"]),
            _signed(ablation.wrong_behind["in"]),
            _plain(ablation.wrong_condition["out"]),
            _signed(ablation.wrong_behind["out"]),
            "",
            "",
        )
    console.print(table)
    console.print(f"{ablation.seconds_per_row:.0f} s a row; {ablation.output}/report.html has the rest", soft_wrap=True)


def _plain(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
