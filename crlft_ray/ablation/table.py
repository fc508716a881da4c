"""The ablation as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from crlft_ray.ablation.paired import Interval
from crlft_ray.ablation.results import Ablation, Measure, RowResult
from crlft_ray.ablation.rows import CRLFT


def print_ablation(ablation: Ablation, console: Console) -> None:
    """How each row answers, how far C-RLFT is ahead, and who has learned more than the sub-optimal source knows."""
    rows = ablation.all_rows()
    title = f"exact match on {ablation.split} problems, {ablation.seeds} seed(s), 95 % intervals"
    more = {
        "learned/step": [f"{row.learned_tokens:.0f}" for row in rows],
        "paper": ["" if row.paper is None else f"{row.paper:.1f}" for row in rows],
    }
    console.print(_table(title, rows, {"in": "in distribution", "out": "out of distribution"}, more))
    title = "in distribution, where the sub-optimal source is wrong"
    console.print(_table(title, rows, {"slips": "right", "repeated": "its very mistake"}, {}))
    if chosen := ablation.chosen:
        tried = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in chosen.validation.items())
        title = f"{chosen.name}, the best weight on validation problems ({tried})"
        console.print(_table(title, chosen.rows, {"in": "in distribution", "out": "out of distribution"}, {}, "chosen"))
    console.print(f"{ablation.seconds_per_row:.0f} s a row; {ablation.report} has the rest", soft_wrap=True)


def _table(
    title: str,
    rows: Sequence[RowResult],
    measures: Mapping[Measure, str],
    more: Mapping[str, Sequence[str]],
    first: str = CRLFT,
) -> Table:
    """Each measure under its heading with how far `first` is ahead; then the columns of `more`."""
    columns: list[tuple[str, Sequence[str]]] = []
    for measure, heading in measures.items():
        columns.append((heading, [_plain(row.scores[measure]) for row in rows]))
        ahead = ["" if row.name == row.against else _signed(row.behind[measure]) for row in rows]
        columns.append((f"{first} − row", ahead))
    columns += more.items()
    table = Table("row", title=title, title_justify="left")
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for number, row in enumerate(rows):
        table.add_row(row.name, *(cells[number] for _, cells in columns))
    return table


def _plain(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
