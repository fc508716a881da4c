"""What the ablation found: each row's accuracy, and how far C-RLFT is ahead of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crlft_ray.ablation.answers import read_rights
from crlft_ray.ablation.paired import Interval, accuracy, difference
from crlft_ray.ablation.rows import CRLFT, Group, Row
from crlft_ray.ablation.scale import Scale
from crlft_ray.ablation.trial import IN_DISTRIBUTION, Arena
from crlft_ray.ablation.world import world_hash
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.storage import Place

Distribution = Literal["in", "out"]


@dataclass(frozen=True)
class RowResult:
    """What came out for one row."""

    name: str
    group: Group
    against: str
    """C-RLFT of the same world."""
    place: float | None
    paper: float | None
    learned_tokens: float
    """Of a step, on average."""
    accuracy: dict[Distribution, Interval]
    behind: dict[Distribution, Interval]
    """That row's accuracy minus this one's, paired; above 0 where C-RLFT is better."""


@dataclass(frozen=True)
class Ablation:
    """Result of the study; also in ablation.json."""

    rows: list[RowResult]
    wrong_condition: dict[Distribution, Interval]
    """Accuracy of C-RLFT's models when they are asked as the sub-optimal class; empty without that row."""
    wrong_behind: dict[Distribution, Interval]
    seeds: int
    split: str
    world: str
    """Hash of the frozen world."""
    scale: Scale
    seconds_per_row: float
    output: str
    mlflow_run_id: str | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def results_of(arena: Arena, seeds: int, seconds: float, run_id: str | None) -> Ablation:
    """Compares all rows, and writes ablation.json.

    Args:
        seconds: of a row, on average.
        run_id: of the study in MLflow.
    """
    rights = {name: _rights(arena, name, seeds) for name in arena.rows}
    wrong = _rights(arena, CRLFT, seeds, "weak") if CRLFT in rights else {}
    rows = [
        RowResult(
            row.name,
            row.group,
            row.against,
            row.place,
            row.paper,
            _learned_tokens(arena, row, seeds),
            {where: accuracy(values) for where, values in rights[row.name].items()},
            {where: difference(rights[row.against][where], values) for where, values in rights[row.name].items()},
        )
        for row in arena.rows.values()
    ]
    ablation = Ablation(
        rows=rows,
        wrong_condition={where: accuracy(values) for where, values in wrong.items()},
        wrong_behind={where: difference(rights[CRLFT][where], values) for where, values in wrong.items()},
        seeds=seeds,
        split=arena.split,
        world=world_hash(),
        scale=arena.scale,
        seconds_per_row=seconds,
        output=str(arena.folder),
        mlflow_run_id=run_id,
    )
    part = arena.folder / "ablation.json.part"
    part.write_text(json.dumps(ablation.to_dict(), indent=1) + "\n", encoding="utf-8")
    part.replace(arena.folder / "ablation.json")
    return ablation


def _learned_tokens(arena: Arena, row: Row, seeds: int) -> float:
    manifests = [read_manifest(Place.of(arena.shards_folder(row, seed) / "shards")) for seed in range(seeds)]
    return sum(manifest.learned_tokens / manifest.packs for manifest in manifests) / seeds


def _rights(arena: Arena, row: str, seeds: int, asked_as: str = "") -> dict[Distribution, npt.NDArray[np.float64]]:
    """Verdicts of a row in and out of distribution, seeds × problems."""
    by_seed = [read_rights(arena.answers_file(row, seed, asked_as)) for seed in range(seeds)]

    def of(inside: bool) -> npt.NDArray[np.float64]:
        chosen: Sequence[list[float]] = [
            [float(right) for level, right in rights if (level == IN_DISTRIBUTION) is inside] for rights in by_seed
        ]
        return np.asarray(chosen)

    return {"in": of(True), "out": of(False)}
