"""report.html of the ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crlft_ray.ablation.hidden_map import flat, mean_hidden_states, separation
from crlft_ray.ablation.plots import curves, hidden_maps, row_bars
from crlft_ray.ablation.results import Ablation, RowResult
from crlft_ray.ablation.rows import CRLFT, EVERYTHING, NO_REWARD, ONLY_EXPERT, Group
from crlft_ray.ablation.sources import SourceName
from crlft_ray.ablation.trial import Arena
from crlft_ray.ablation.world import World
from crlft_ray.report.page import picture, render

_MAPPED = 300
"""Conversations of each class on the map."""
_SIX_PLACES: Mapping[Group, Sequence[str]] = {
    "share": (CRLFT, NO_REWARD, ONLY_EXPERT, EVERYTHING),
    "weight": (CRLFT, NO_REWARD),
    "mislabelled": (CRLFT,),
}
"""Rows of the six that are points of a further comparison, too."""


def write_report(ablation: Ablation, arena: Arena) -> list[Path]:
    """Writes report.html, or that of another split; returns it with the JSON file beside it."""
    six = [row for row in ablation.rows if row.group == "six"]
    with_wrong = [row for row in ablation.all_rows() if row.group == "six"]
    apart, maps = _maps(arena) if {CRLFT, EVERYTHING} <= arena.rows.keys() else ({}, None)
    page = render(
        "crlft_ray.ablation",
        "report.html.jinja",
        ablation=ablation,
        six=with_wrong,
        order=[row.name for row in sorted(six, key=lambda row: -row.scores["in"].mean)],
        bars=picture(row_bars(with_wrong)) if six else None,
        further=[row for row in ablation.rows if row.group != "six"],
        curves=[picture(png) for png in _curves(ablation, six)],
        maps=picture(maps) if maps else None,
        apart=apart,
    )
    part = arena.report_file.with_suffix(".html.part")
    part.write_text(page, encoding="utf-8")
    part.replace(arena.report_file)
    return [arena.report_file, arena.results_file]


def _curves(ablation: Ablation, six: Sequence[RowResult]) -> list[bytes]:
    scale = ablation.scale
    places = {"share": scale.expert_share, "weight": {CRLFT: 0.1, NO_REWARD: 1.0}, "mislabelled": 0.0}
    found = []
    axes: Sequence[tuple[Group, str, bool]] = (
        ("share", "share of the expert's conversations", True),
        ("weight", "weight of the sub-optimal class", False),
        ("mislabelled", "share of mislabelled conversations", False),
    )
    for group, axis, logarithmic in axes:
        rows = [row for row in ablation.rows if row.group == group]
        for row in six if rows else ():
            if row.name in _SIX_PLACES[group]:
                place: Any = places[group]
                # One line along the weights: without the reward is weight 1.
                name = CRLFT if group == "weight" else row.name
                at = place[row.name] if isinstance(place, dict) else place
                rows.append(replace(row, name=name, place=at))
        if len({row.place for row in rows}) > 1:
            found.append(curves(f"By {group}", axis, rows, logarithmic=logarithmic))
    return found


def _maps(arena: Arena) -> tuple[dict[str, float], bytes]:
    """The conversations of the first world in the models with and without conditions."""
    scale = arena.scale
    samples = World(seed=0, conversations=scale.conversations, expert_share=scale.expert_share).samples()
    by_class: dict[SourceName, int] = {}
    chosen = []
    for sample in samples:
        if by_class.setdefault(sample.tag, 0) < _MAPPED:
            by_class[sample.tag] += 1
            chosen.append(sample)
    classes = [sample.tag for sample in chosen]
    apart, maps = {}, {}
    for name, conditioned in ((CRLFT, True), (EVERYTHING, False)):
        points = mean_hidden_states(str(arena.row_folder(name, 0) / "export"), chosen, conditioned)
        apart[name] = separation(points, classes)
        maps[name] = flat(points)
    return apart, hidden_maps(maps, classes)
