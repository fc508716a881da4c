"""Prints a plan."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crlft_ray.planning.figure import Figure, Figures
from crlft_ray.planning.plan_of import Plan


def print_plan(plan: Plan, console: Console) -> None:
    """Each figure with how it was worked out; `~` marks estimates."""
    memory = plan.memory
    console.print(
        f"{plan.model}: {plan.parameters:,} parameters on {plan.nodes} x {plan.gpus} {plan.gpu}",
        highlight=False, markup=False,
    )  # fmt: skip
    for title, figures in (
        ("Memory of a GPU, always", memory.always),
        ("besides, in a forward and backward pass", memory.micro_batch),
        ("or in an optimizer step", memory.step),
        ("for comparison", memory.unused),
        ("Memory of each node", memory.host),
        ("Sent by each rank in a step", plan.communication),
        ("Time", plan.time),
        ("Checkpoints", plan.checkpoint),
        ("Data", plan.data),
    ):
        if figures:
            console.print(_table(title, figures))
    _print_verdict(plan, console)
    if "steps" not in plan.data:
        console.print("how many steps is not known: prepare the shards, or say --tokens", highlight=False)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print("~ is an estimate, which nothing here can check; the rest is compared with real engines in the tests")


def _print_verdict(plan: Plan, console: Console) -> None:
    memory = plan.memory
    verdict = "it FITS" if plan.fits else "it does NOT fit"
    console.print(
        f"{verdict}: at most ~{_shown(memory.peak, 'bytes')} of {_shown(memory.usable.value, 'bytes')} "
        f"({memory.usable.formula})",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    for mend in plan.mends:
        console.print(
            f"  it would with {' '.join(mend.changes)}: ~{_shown(mend.peak, 'bytes')} a GPU, "
            f"{_shown(mend.host, 'bytes')} of memory in each node",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if not plan.fits and not plan.mends:
        console.print("  no setting known here makes it fit, nor do eight times the nodes", highlight=False)


def _table(title: str, figures: Figures) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False, pad_edge=False)
    table.add_column(width=24)
    table.add_column(justify="right", width=16)
    table.add_column(style="dim")
    for name, figure in figures.items():
        table.add_row(name, _cell(figure), figure.formula)
    return table


def _cell(figure: Figure) -> str:
    return f"{'~' if figure.estimate else ''}{_shown(figure.value, figure.unit)}"


def _shown(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e9:,.2f} GB"
    if unit in ("CPUs", "steps", "tokens/s"):
        return f"{value:,.0f} {unit}"
    return f"{value:,.3g} {unit}"
