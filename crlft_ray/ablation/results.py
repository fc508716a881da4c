"""What the ablation found: how each row answers, and how far C-RLFT is ahead of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crlft_ray.ablation.answers import Answered, read_answers
from crlft_ray.ablation.paired import Interval, difference, share
from crlft_ray.ablation.rows import CRLFT, WRONG_CONDITION, Group, Row, weight_rows
from crlft_ray.ablation.scale import Scale
from crlft_ray.ablation.trial import CHOOSING, IN_DISTRIBUTION, Arena
from crlft_ray.ablation.world import world_hash
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.storage import Place

Measure = Literal["in", "out", "slips", "repeated"]
"""Accuracy in distribution and out of it; in distribution, where the sub-optimal source slips, accuracy and how often
its very slip is repeated. Whoever only imitates that source is right where it is, and nowhere else."""


@dataclass(frozen=True)
class RowResult:
    """What came out for one row."""

    name: str
    group: Group
    against: str
    """C-RLFT on the same conversations."""
    place: float | None
    paper: float | None
    learned_tokens: float
    """Of a step, on average."""
    scores: dict[Measure, Interval]
    behind: dict[Measure, Interval]
    """That row's scores minus this one's, paired; above 0 where C-RLFT has more."""


@dataclass(frozen=True)
class ChosenWeight:
    """C-RLFT with the weight that is best on the validation problems, as a search of the class weights finds it."""

    name: str
    """Its row."""
    validation: dict[str, float]
    """Accuracy of each weight's row on validation problems in distribution, by which it was chosen."""
    rows: list[RowResult]
    """The six rows, compared with it."""


@dataclass(frozen=True)
class Ablation:
    """Result of the study; also in ablation.json."""

    rows: list[RowResult]
    asked_wrongly: RowResult | None
    """C-RLFT's models when they are asked as the sub-optimal class; none without that row."""
    chosen: ChosenWeight | None
    """None without rows of other weights, and on validation problems themselves."""
    seeds: int
    split: str
    world: str
    """Hash of the frozen world."""
    scale: Scale
    seconds_per_row: float
    output: str
    report: str
    """File with the tables and plots."""
    mlflow_run_id: str | None

    def all_rows(self) -> list[RowResult]:
        """The rows, and what is no row of its own."""
        return [*self.rows, *([self.asked_wrongly] if self.asked_wrongly else [])]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def results_of(arena: Arena, seeds: int, seconds: float, run_id: str | None) -> Ablation:
    """Compares all rows, and writes ablation.json, or that of another split.

    Args:
        seconds: of a row, on average.
        run_id: of the study in MLflow.
    """
    scores = {name: _scores(arena, name, seeds) for name in arena.rows}

    def result(row: Row, found: Mapping[Measure, npt.NDArray[np.float64]]) -> RowResult:
        return RowResult(
            row.name,
            row.group,
            row.against,
            row.place,
            row.paper,
            _learned_tokens(arena, row, seeds),
            {measure: share(values) for measure, values in found.items()},
            {measure: difference(scores[row.against][measure], values) for measure, values in found.items()},
        )

    wrongly = None
    if CRLFT in scores:
        row = replace(arena.rows[CRLFT], name=WRONG_CONDITION, paper=None)
        wrongly = result(row, _scores(arena, CRLFT, seeds, "weak"))
    ablation = Ablation(
        chosen=_chosen(arena, seeds, lambda row: result(row, scores[row.name])),
        rows=[result(row, scores[row.name]) for row in arena.rows.values()],
        asked_wrongly=wrongly,
        seeds=seeds,
        split=arena.split,
        world=world_hash(),
        scale=arena.scale,
        seconds_per_row=seconds,
        output=str(arena.folder),
        report=str(arena.report_file),
        mlflow_run_id=run_id,
    )
    part = arena.results_file.with_suffix(".json.part")
    part.write_text(json.dumps(ablation.to_dict(), indent=1) + "\n", encoding="utf-8")
    part.replace(arena.results_file)
    return ablation


def _chosen(arena: Arena, seeds: int, result: Callable[[Row], RowResult]) -> ChosenWeight | None:
    weights = weight_rows(arena.rows.values())
    if not weights or arena.split == CHOOSING:
        return None
    choosing = replace(arena, split=CHOOSING)
    validation = {row.name: float(_scores(choosing, row.name, seeds)["in"].mean()) for row in weights}
    best = max(validation, key=lambda name: validation[name])
    six = [replace(row, against=best) for row in arena.rows.values() if row.group == "six"]
    return ChosenWeight(best, validation, [result(row) for row in six])


def _learned_tokens(arena: Arena, row: Row, seeds: int) -> float:
    manifests = [read_manifest(Place.of(arena.shards_folder(row, seed) / "shards")) for seed in range(seeds)]
    return sum(manifest.learned_tokens / manifest.packs for manifest in manifests) / seeds


def _scores(arena: Arena, row: str, seeds: int, asked_as: str = "") -> dict[Measure, npt.NDArray[np.float64]]:
    """Of each measure 0 and 1, seeds × problems."""
    asked = arena.asked()
    by_seed = [read_answers(arena.answers_file(row, seed, asked_as), asked) for seed in range(seeds)]

    def of(answers: Sequence[Answered]) -> dict[Measure, list[bool]]:
        inside = [answer for answer in answers if answer.problem.level == IN_DISTRIBUTION]
        slips = [answer for answer in inside if answer.problem.slip != answer.problem.answer]
        return {
            "in": [answer.right for answer in inside],
            "out": [answer.right for answer in answers if answer.problem.level != IN_DISTRIBUTION],
            "slips": [answer.right for answer in slips],
            "repeated": [answer.repeats_slip for answer in slips],
        }

    scored = [of(answers) for answers in by_seed]
    return {measure: np.asarray([each[measure] for each in scored], dtype=np.float64) for measure in scored[0]}
