"""One row with one seed: the normal code path from shards to an export, then the answers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crlft_ray.ablation.answers import Learner, read_answers, write_answers
from crlft_ray.ablation.draw import Level, Split
from crlft_ray.ablation.model import TEMPLATE
from crlft_ray.ablation.problems import Problem, problems
from crlft_ray.ablation.rows import CRLFT, Row
from crlft_ray.ablation.scale import Scale
from crlft_ray.ablation.sources import SOURCES
from crlft_ray.ablation.step_tokens import step_tokens
from crlft_ray.config import Config, validate
from crlft_ray.errors import TrainingFailed, UserError
from crlft_ray.templates.tokenizer import load_chat_tokenizer
from crlft_ray.tracking import Record
from crlft_ray.tuning.journal import State
from crlft_ray.tuning.trial import clean_up

IN_DISTRIBUTION: Level = "in"
CHOOSING: Split = "validation"
"""The problems on which settings are chosen."""


@dataclass(frozen=True)
class Arena:
    """What all rows share; pickled to each trial."""

    folder: Path
    """Absolute; local."""
    rows: Mapping[str, Row]
    scale: Scale
    problems: Mapping[Level, int]
    """How many of each level are asked."""
    split: Split
    tracking_uri: str
    experiment: str
    parent_run: str | None

    def asked(self) -> list[Problem]:
        """All problems, in the order in which they are asked."""
        return [problem for level, count in self.problems.items() for problem in problems(self.split, level, count)]

    def world_folder(self, row: Row, seed: int) -> Path:
        """Where the conversations of the row's world lie."""
        differing = "-".join(f"{key}={value:g}" for key, value in row.world.items())
        return self.folder / "worlds" / (f"{seed}-{differing}" if differing else str(seed))

    def model_folder(self, seed: int) -> Path:
        """The untrained model of a seed."""
        return self.folder / "models" / str(seed)

    def shards_folder(self, row: Row, seed: int) -> Path:
        """Rows that differ only in their weights have the same shards."""
        kind = "conditioned" if row.conditioned else "plain"
        return self.world_folder(row, seed) / f"{kind}-{'-'.join(row.weights)}"

    def answers_file(self, row: str, seed: int, asked_as: str = "") -> Path:
        """The answers of a row's model to this split; of another condition beside it."""
        return self.row_folder(row, seed) / f"answers{self._suffix}{f'-as-{asked_as}' if asked_as else ''}.jsonl"

    @property
    def results_file(self) -> Path:
        """Where what was found lies as JSON."""
        return self.folder / f"ablation{self._suffix}.json"

    @property
    def report_file(self) -> Path:
        """Where it lies as a page."""
        return self.folder / f"report{self._suffix}.html"

    @property
    def _suffix(self) -> str:
        """In the names of files about another split than the test problems: the same models answer all."""
        return "" if self.split == "test" else f"-{self.split}"

    def row_folder(self, row: str, seed: int) -> Path:
        """The output of a row's training."""
        plain = "".join(letter if letter.isalnum() or letter in ".%" else "_" for letter in row)
        return self.folder / "rows" / f"{plain}-{seed}"

    def keep_step_tokens(self, row: Row, seed: int) -> None:
        """Counts how many tokens a step of the row has, once; its world and model must be there."""
        file = self._step_tokens_file(row, seed)
        if file.exists():
            return
        tokenizer = load_chat_tokenizer(str(self.model_folder(seed)), TEMPLATE, row.condition(row.best))
        files = {name: self.world_folder(row, seed) / f"{name}.jsonl" for name in row.weights}
        conditions = {name: row.condition(name) for name in row.weights}
        count = step_tokens(files, conditions, tokenizer, self.scale.learned_tokens)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(f"{count}\n", encoding="utf-8")
        part.replace(file)

    def step_tokens(self, row: Row, seed: int) -> int:
        """Tokens of a step of the row, one pack."""
        return int(self._step_tokens_file(row, seed).read_text(encoding="utf-8"))

    def _step_tokens_file(self, row: Row, seed: int) -> Path:
        return self.shards_folder(row, seed) / "step_tokens.txt"

    def config_of(self, row: Row, seed: int, *, shards: bool = True) -> Config:
        """The row's config: that of its training, or without `shards` that which makes them."""
        scale, tokens, steps = self.scale, self.step_tokens(row, seed), row.times * self.scale.steps
        output = self.row_folder(row.name, seed) if shards else self.shards_folder(row, seed)
        world = self.world_folder(row, seed)
        raw = {
            "model": str(self.model_folder(seed)),
            "output": str(output),
            "template": TEMPLATE,
            "classes": {
                name: {"condition": row.condition(name), "weight": weight}
                for name, weight in row.weights.items()
            },
            "infer_as": row.best,
            "data": {
                "sources": [{"path": str(world / f"{name}.jsonl"), "class": name} for name in row.weights],
                "holdout": 0.0,
                "context": scale.context,
                "pack_tokens": tokens,
                "shards": str(self.shards_folder(row, seed) / "shards") if shards else None,
            },
            "train": {
                "workers": scale.workers, "threads_per_worker": scale.threads, "precision": "fp32",
                "global_batch_tokens": tokens, "max_steps": steps, "epochs": 100_000,
                "lr": scale.lr, "checkpoint_every": steps, "seed": seed,
            },
            "evaluate": {"suites": []},
            "tracking": {"uri": self.tracking_uri, "experiment": self.experiment},
        }  # fmt: skip
        return validate(raw, f"row '{row.name}'")

    def ended(self, trial: str, values: dict[str, Any], state: State) -> None:
        """Cleans up after a trial."""
        clean_up(self.config_of(self.rows[values["row"]], values["seed"]), state)


def run_row(asked: dict[str, Any], job: Arena) -> dict[str, Any]:
    """Trains a row and asks its model all problems; Tune calls it."""
    from crlft_ray.training.train import Within, train

    os.chdir(job.folder)
    row, seed = job.rows[asked["values"]["row"]], asked["values"]["seed"]
    began = time.monotonic()
    try:
        trained = train(job.config_of(row, seed), within=Within(job.parent_run, _ignore))
    except (UserError, TrainingFailed) as error:
        raise RuntimeError(str(error)) from None
    trained_s = time.monotonic() - began
    ask(job, row, seed)
    answers = read_answers(job.answers_file(row.name, seed), job.asked())
    inside = [answered.right for answered in answers if answered.problem.level == IN_DISTRIBUTION]
    return {
        "finished": True,
        "score": sum(inside) / len(inside),
        "step": trained.steps,
        "tokens": trained.steps * job.step_tokens(row, seed),
        "seconds": time.monotonic() - began,
        "training_s": trained_s,
        "mlflow_run_id": trained.mlflow_run_id,
    }


def ask(job: Arena, row: Row, seed: int) -> None:
    """Asks a trained row's model what it has not been asked: all problems, and C-RLFT's under other conditions, too."""
    others = [name for name in SOURCES if name in row.weights and name != row.best] if row.name == CRLFT else []
    files = {name: job.answers_file(row.name, seed, name) for name in ("", *others)}
    missing = {name: file for name, file in files.items() if not file.exists()}
    if missing:
        export = job.row_folder(row.name, seed) / "export"
        learner = Learner(str(export), job.scale.threads * job.scale.workers)
        for name, file in missing.items():
            write_answers(learner.answer(job.asked(), name or None), file)


def _ignore(records: list[Record]) -> None:
    """A row runs to its end: nothing is stopped early."""
