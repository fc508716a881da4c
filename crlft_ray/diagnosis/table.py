"""Shows a diagnosis to a person."""

from __future__ import annotations

from typing import Any

from crlft_ray.diagnosis.examine import Diagnosis


def print_diagnosis(diagnosis: Diagnosis, console: Any) -> None:
    """A line a check and text; nodes of which the same is said share it."""
    from rich.table import Table
    from rich.text import Text

    grouped: dict[tuple[str, bool, str], list[str]] = {}
    for finding in diagnosis.findings:
        grouped.setdefault((finding.check, finding.ok, finding.text), []).append(finding.node)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "node", "found"):
        table.add_column(heading, overflow="fold")
    for (check, ok, text), nodes in grouped.items():
        every = len(nodes) > 1 and len(nodes) == len(diagnosis.nodes)
        where = f"all {len(nodes)}" if every else "\n".join(nodes)
        sign = Text("✓", "green") if ok else Text("✗", "bold red")
        table.add_row(sign, check, where, Text(text, "" if ok else "red"))
    console.print(table)
    wrong = sum(not finding.ok for finding in diagnosis.findings)
    count = len(diagnosis.nodes)
    said = f"{wrong} thing{'s' if wrong > 1 else ''} to mend" if wrong else "all is well"
    console.print(f"{count} node{'s' if count > 1 else ''}: {said}", highlight=False)
