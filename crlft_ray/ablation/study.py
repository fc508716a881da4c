"""`crlft study ablation`: the paper's table in a world whose truth is known."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from crlft_ray.ablation.draw import Level
from crlft_ray.ablation.model import write_model
from crlft_ray.ablation.results import Ablation, results_of
from crlft_ray.ablation.rows import Row, all_rows, rows_of, weight_rows
from crlft_ray.ablation.scale import FROZEN_WORLD, FULL, QUICK, Scale
from crlft_ray.ablation.trial import CHOOSING, Arena, ask, run_row
from crlft_ray.ablation.world import TEST_PROBLEMS, World, world_hash
from crlft_ray.config.tune import Budget, Tune
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.lease import owned
from crlft_ray.shards.prepare import prepare
from crlft_ray.tracking import Run, RunSpec, tracking_uri
from crlft_ray.tuning.checks import check_same_study
from crlft_ray.tuning.journal import Journal
from crlft_ray.tuning.space import Domain

log = logging.getLogger(__name__)

EXPERIMENT = "crlft-ablation"
AskedSplit = Literal["validation", "test"]
SPLITS: tuple[AskedSplit, ...] = ("validation", "test")


def study_ablation(
    *,
    output: str | None = None,
    quick: bool = False,
    seeds: int = 3,
    further: bool = False,
    rows: str = "",
    split: AskedSplit = "test",
) -> Ablation:
    """Trains every row with every seed through Tune and Train, asks each model the problems, and writes report.html.

    Args:
        output: local folder of worlds, models, answers and report, by default runs/ablation, or
            with `quick` runs/ablation-quick; the same call goes on with it, and one for more
            seeds or rows trains only what is missing.
        quick: one seed and shorter trainings, to see it work.
        seeds: worlds and initial models for each row.
        further: the rows beyond the paper's six, too.
        rows: only rows whose names contain this, and those that they are compared with.
        split: problems to ask; settings were chosen on `validation`. The same models answer both: a folder that was
            asked one is asked the other without any training.

    Raises:
        UserError: the folder holds another study, or cannot be used; no row is called so.
        Stopped: SIGTERM or SIGINT came; the same command goes on.
        TrainingFailed: a row failed twice; the same call tries it again.
    """
    output = output or ("runs/ablation-quick" if quick else "runs/ablation")
    if "://" in output:
        raise UserError(f"output: {output} is not local; the ablation's files are small, keep them beside the driver")
    if split == "test":
        _check_frozen()
    scale, number = (QUICK, 1) if quick else (FULL, seeds)
    return run_ablation(
        Path(output).absolute(), rows_of(further=further, named=rows), scale, number, split, TEST_PROBLEMS
    )


def run_ablation(
    folder: Path, rows: Sequence[Row], scale: Scale, seeds: int, split: AskedSplit, levels: Mapping[Level, int]
) -> Ablation:
    """As `study_ablation`, of any rows and size; `levels` says how many problems are asked at each."""
    from crlft_ray.ablation.report import write_report
    from crlft_ray.ray_session import connect

    named = {row.name: row for row in rows}
    with owned(str(folder)):
        check_same_study({"world": world_hash(), "scale": asdict(scale)}, folder / "tracking", str(folder))
        _check_all_asked(folder, named, seeds)
        connect()
        uri = tracking_uri(None, str(folder))
        run = Run(uri, folder / "tracking")
        run.start(RunSpec(EXPERIMENT, f"ablation {folder.name}", {"scale": asdict(scale), "seeds": seeds}))
        arena = Arena(folder, named, scale, levels, split, uri, EXPERIMENT, run.run_id)
        with run.ended_with_block():
            seconds = _run(arena, seeds)
            ablation = results_of(arena, seeds, seconds, run.run_id)
            run.log_artifacts(write_report(ablation, arena), "ablation")
    return ablation


def _check_all_asked(folder: Path, rows: Mapping[str, Row], seeds: int) -> None:
    """A folder can be asked for more rows and seeds than it has, not for fewer."""
    for log in _journal(folder).trials().values():
        row, seed = log.values["row"], log.values["seed"]
        if row not in {*rows, *(each.name for each in all_rows())}:
            raise UserError(f"output: {folder} has '{row}', which is no row any more; choose another output")
        if row not in rows or seed >= seeds:
            raise UserError(
                f"output: {folder} also has '{row}' with seed {seed}; ask for at least the rows and seeds that it has, "
                "or choose another output"
            )


def _journal(folder: Path) -> Journal:
    return Journal(folder / "tracking" / "study" / "trials.jsonl")


def _check_frozen() -> None:
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
        lambda journal: Watcher(journal, "accuracy", arena.ended),
        again=True,
    )
    failed = {f"{log.values['row']}, seed {log.values['seed']}": log.error for log in logs if log.state == "failed"}
    if failed:
        raise TrainingFailed("; ".join(f"{row}: {error}" for row, error in failed.items()))
    choosing = replace(arena, split=CHOOSING)
    for seed in range(seeds):
        for row in arena.rows.values():
            ask(arena, row, seed)
        for row in weight_rows(arena.rows.values()):
            ask(choosing, row, seed)
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
        arena.keep_step_tokens(row, seed)
        prepare(arena.config_of(row, seed, shards=False))
