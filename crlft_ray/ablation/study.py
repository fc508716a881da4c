"""`crlft study ablation`: the paper's table in a world whose truth is known."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crlft_ray.ablation.answers import read_rights
from crlft_ray.ablation.draw import Level
from crlft_ray.ablation.model import write_model
from crlft_ray.ablation.paired import Interval, accuracy, difference
from crlft_ray.ablation.rows import CRLFT, SIX, Row, further_rows
from crlft_ray.ablation.scale import FROZEN_WORLD, FULL, QUICK, Scale
from crlft_ray.ablation.trial import IN_DISTRIBUTION, Arena, run_row
from crlft_ray.ablation.world import TEST_PROBLEMS, World, world_hash
from crlft_ray.config.tune import Budget, Tune
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.lease import owned
from crlft_ray.shards.prepare import prepare
from crlft_ray.tracking import Run, RunSpec, tracking_uri
from crlft_ray.tuning.checks import check_same_study
from crlft_ray.tuning.space import Domain

log = logging.getLogger(__name__)

EXPERIMENT = "crlft-ablation"
Distribution = Literal["in", "out"]
AskedSplit = Literal["validation", "test"]
SPLITS: tuple[AskedSplit, ...] = ("validation", "test")


@dataclass(frozen=True)
class RowResult:
    """What came out for one row."""

    name: str
    group: str
    place: float | None
    paper: float | None
    accuracy: dict[Distribution, Interval]
    behind: dict[Distribution, Interval]
    """C-RLFT's accuracy minus this row's, paired; above 0 where C-RLFT is better."""


@dataclass(frozen=True)
class Ablation:
    """Result of the study; also in ablation.json."""

    rows: list[RowResult]
    wrong_condition: dict[Distribution, Interval]
    """Accuracy of C-RLFT's models when they are asked as the sub-optimal class."""
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


def study_ablation(
    *,
    output: str = "runs/ablation",
    quick: bool = False,
    seeds: int = 3,
    further: bool = False,
    split: AskedSplit = "test",
) -> Ablation:
    """Trains every row with every seed through Tune and Train, asks each model the problems, and writes report.html.

    Args:
        output: local folder of worlds, models, answers and report; the same call goes on with it.
        quick: one seed and shorter trainings, to see it work.
        seeds: worlds and initial models for each row.
        further: the rows beyond the paper's six, too.
        split: problems to ask; settings were chosen on `validation`.

    Raises:
        UserError: the folder holds another study, or cannot be used.
        Stopped: SIGTERM or SIGINT came; the same command goes on.
        TrainingFailed: a row failed twice.
    """
    if "://" in output:
        raise UserError(f"output: {output} is not local; the ablation's files are small, keep them beside the driver")
    if split == "test":
        _check_frozen()
    rows = (*SIX, *(further_rows() if further else ()))
    scale, number = (QUICK, 1) if quick else (FULL, seeds)
    return run_ablation(Path(output).absolute(), rows, scale, number, split, TEST_PROBLEMS)


def run_ablation(
    folder: Path, rows: Sequence[Row], scale: Scale, seeds: int, split: AskedSplit, levels: Mapping[Level, int]
) -> Ablation:
    """As `study_ablation`, of any rows and size; `levels` says how many problems are asked at each."""
    from crlft_ray.ablation.report import write_report
    from crlft_ray.ray_session import connect

    named = {row.name: row for row in rows}
    with owned(str(folder)):
        check_same_study(
            {"world": world_hash(), "scale": asdict(scale), "seeds": seeds, "rows": list(named), "split": split},
            folder / "tracking",
            str(folder),
        )
        connect()
        uri = tracking_uri(None, str(folder))
        run = Run(uri, folder / "tracking")
        run.start(RunSpec(EXPERIMENT, f"ablation {folder.name}", {"scale": asdict(scale), "seeds": seeds}))
        arena = Arena(folder, named, scale, levels, split, uri, EXPERIMENT, run.run_id)
        with run.ended_with_block():
            seconds = _run(arena, seeds)
            ablation = _results(arena, seeds, seconds, run)
            run.log_artifacts(write_report(ablation, arena, folder), "ablation")
    return ablation


def _check_frozen() -> None:
    if not FROZEN_WORLD:
        raise UserError(
            "split: the settings of the ablation are not chosen yet, and the test problems are asked only after that; "
            "--split validation runs it"
        )
    found = world_hash()
    if found != FROZEN_WORLD:
        raise UserError(
            f"the world is not the frozen one (its hash is {found[:12]}, frozen was {FROZEN_WORLD[:12]}): changes of "
            "the world are tried on --split validation, and it is frozen again before the test problems are asked"
        )


def _run(arena: Arena, seeds: int) -> float:
    """Prepares and trains whatever is not done; returns the mean seconds of a row."""
    from crlft_ray.tuning.trials import Search, run_trials
    from crlft_ray.tuning.watcher import Watcher

    for seed in range(seeds):
        _prepare(arena, seed)
    tune = Tune(
        searcher="grid", scheduler="none", direction="max", at_once=arena.scale.at_once,
        budget=Budget(trials=seeds * len(arena.rows)),
    )  # fmt: skip
    space = {"seed": Domain("grid", tuple(range(seeds))), "row": Domain("grid", tuple(arena.rows))}
    logs = run_trials(
        run_row,
        arena,
        Search(tune, space, seed=0, first=1, steps=arena.scale.steps),
        arena.folder / "tracking" / "study",
        lambda journal, asked: Watcher(journal, "accuracy", asked, arena.ended),
    )
    failed = {f"{log.values['row']}, seed {log.values['seed']}": log.error for log in logs if log.state == "failed"}
    if failed:
        raise TrainingFailed("; ".join(f"{row}: {error}" for row, error in failed.items()))
    return float(np.mean([log.last["seconds"] for log in logs]))


def _prepare(arena: Arena, seed: int) -> None:
    """Conversations, the untrained model and the shards of one seed."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    scale = arena.scale
    base = World(seed=seed, conversations=scale.conversations, expert_share=scale.expert_share)
    if not arena.model_folder(seed).exists():
        log.info("seed %d: making the world and its model", seed)
        arena.model_folder(seed).parent.mkdir(parents=True, exist_ok=True)
        write_model(arena.model_folder(seed), base.samples(), scale.size, seed)
    for row in arena.rows.values():
        world, part = arena.world_folder(row, seed), arena.world_folder(row, seed).with_suffix(".part")
        if not world.exists():
            shutil.rmtree(part, ignore_errors=True)
            row.world_of(seed, scale.conversations, scale.expert_share).write(part)
            part.rename(world)
        prepare(arena.config_of(row, seed, shards=False))


def _results(arena: Arena, seeds: int, seconds: float, run: Run) -> Ablation:
    best = _rights(arena, CRLFT, seeds)
    wrong = _rights(arena, CRLFT, seeds, "weak")
    rows = []
    for row in arena.rows.values():
        rights = _rights(arena, row.name, seeds)
        rows.append(
            RowResult(
                row.name,
                row.group,
                row.place,
                row.paper,
                {where: accuracy(values) for where, values in rights.items()},
                {where: difference(best[where], values) for where, values in rights.items()},
            )
        )
    ablation = Ablation(
        rows=rows,
        wrong_condition={where: accuracy(values) for where, values in wrong.items()},
        wrong_behind={where: difference(best[where], values) for where, values in wrong.items()},
        seeds=seeds,
        split=arena.split,
        world=world_hash(),
        scale=arena.scale,
        seconds_per_row=seconds,
        output=str(arena.folder),
        mlflow_run_id=run.run_id,
    )
    part = arena.folder / "ablation.json.part"
    part.write_text(json.dumps(ablation.to_dict(), indent=1) + "\n", encoding="utf-8")
    part.replace(arena.folder / "ablation.json")
    return ablation


def _rights(arena: Arena, row: str, seeds: int, asked_as: str = "") -> dict[Distribution, npt.NDArray[np.float64]]:
    """Verdicts of a row in and out of distribution, seeds × problems."""
    by_seed = [read_rights(arena.answers_file(row, seed, asked_as)) for seed in range(seeds)]

    def of(inside: bool) -> npt.NDArray[np.float64]:
        chosen: Sequence[list[float]] = [
            [float(right) for level, right in rights if (level == IN_DISTRIBUTION) is inside] for rights in by_seed
        ]
        return np.asarray(chosen)

    return {"in": of(True), "out": of(False)}
