"""Real runs for the tests: configs on disk, and one finished training that many tests look at."""

from __future__ import annotations

import contextlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crlft_ray.config import Config, load_config
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.prepare import prepare
from crlft_ray.training.train import Trained, train
from tests.synthetic import raw_config, sentence

REPLIES = {"expert": "the river is very quick, therefore learn 42", "mixed": "maybe never a slow house because x=1"}


@dataclass(frozen=True)
class FinishedRun:
    """A run from conversations to an export, and what it showed on the way."""

    config: Config
    config_file: Path
    manifest: Manifest
    trained: Trained
    result: dict[str, Any]
    """result.json right after it; other tests give the command again."""
    shown: str
    """What a person saw on stderr."""

    @property
    def output(self) -> Path:
        return Path(self.trained.output)


def write_learnable(path: Path, count: int = 150) -> Path:
    """Conversations in which the answer depends on the class alone, so that a few steps learn much of it."""
    rng = random.Random(7)
    lines = []
    for number in range(count):
        rating = 1 + number % 10
        reply = REPLIES["expert" if rating >= 8 else "mixed"]
        messages = [{"role": "system", "content": sentence(rng, longest=6)}] if number % 3 == 0 else []
        for turn in range(2):
            messages.append({"role": "user", "content": f"{number}-{turn} {sentence(rng, longest=12)}"})
            messages.append({"role": "assistant", "content": reply})
        lines.append(json.dumps({"messages": messages, "rating": rating}, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def run_config(model: Path, output: Path, source: Path, /, **sections: Any) -> dict[str, Any]:
    """Two workers, two epochs, and a constant learning rate, so that the plan's length changes no step."""
    train = {
        "workers": 2, "global_batch_tokens": 2048, "epochs": 2, "lr": 0.03, "warmup": 0.0, "final_lr": 1.0,
        "precision": "bf16", "checkpoint_every": 50, "collective_timeout": 120.0,
    }  # fmt: skip
    sections["train"] = {**train, **sections.get("train", {})}
    sections["data"] = {"holdout": 0.1, **sections.get("data", {})}
    return raw_config(model, output, source, **sections)


def write_config(path: Path, raw: dict[str, Any]) -> Path:
    """The config as a file."""
    path.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def finish_run(folder: Path, raw: dict[str, Any]) -> FinishedRun:
    """Prepares and trains; Ray must be connected."""
    config_file = write_config(folder / "config.yaml", raw)
    config = load_config(config_file)
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        manifest = prepare(config).manifest
        trained = train(config)
    result = json.loads((Path(trained.output) / "result.json").read_text())
    return FinishedRun(config, config_file, manifest, trained, result, shown.getvalue())
