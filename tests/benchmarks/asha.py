"""Early stopping: the same random search with ASHA and without a scheduler, over the ablation's world.

    python tests/benchmarks/asha.py [--trials 9] [--steps 540]

Both studies try the same weights of the sub-optimal class with the same seed; the metric is the held-out loss of the
expert's conversations. Bar: the same best trial, or one within the noise, for at most 60 % of the tokens. The noise is
what another seed makes of the best trial.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from crlft_ray.ablation.model import Size, write_model
from crlft_ray.ablation.scale import FULL
from crlft_ray.ablation.world import World
from crlft_ray.config import Config, validate
from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.study import ranked, tune

SHARE_BAR = 0.6
_STEP_TOKENS = 4096


def config(scratch: Path, scheduler: str, trials: int, steps: int) -> Config:
    """A study over the weight of the sub-optimal class."""
    raw: dict[str, Any] = {
        "model": str(scratch / "model"),
        "output": str(scratch / scheduler),
        "template": "openchat",
        "classes": {"expert": {"condition": "expert", "weight": 1.0}, "weak": {"condition": "weak", "weight": 0.1}},
        "infer_as": "expert",
        "data": {
            "sources": [{"path": str(scratch / f"world/{name}.jsonl"), "class": name} for name in ("expert", "weak")],
            "holdout": 0.05, "context": FULL.context, "pack_tokens": _STEP_TOKENS,
        },
        "train": {
            "workers": 1, "threads_per_worker": 1, "precision": "fp32", "lr": FULL.lr,
            "global_batch_tokens": _STEP_TOKENS, "max_steps": steps, "epochs": 100_000,
            "checkpoint_every": steps,
        },
        "evaluate": {"suites": [], "every": steps // 9, "heldout": 100},
        "tune": {
            "space": {"classes.weak.weight": "loguniform(0.001, 1)"}, "searcher": "random", "scheduler": scheduler,
            "budget": {"trials": trials}, "at_once": 2,
        },
    }  # fmt: skip
    return validate(raw, "the benchmark's config")


def noise_of(scratch: Path, best: TrialLog, steps: int) -> float:
    """How far another seed moves the best trial's metric."""
    from crlft_ray.training.train import train

    raw = config(scratch, "none", 1, steps).model_dump(mode="json", by_alias=True) | {"output": str(scratch / "noise")}
    raw["classes"]["weak"]["weight"] = best.values["classes.weak.weight"]
    raw["train"]["seed"] = 1
    raw["data"]["shards"] = str(scratch / "none" / "shards")
    trained = train(validate(raw, "the benchmark's config"))
    return abs(trained.metrics["heldout/expert/as_expert"] - best.score)


def main() -> None:
    """Runs both studies and prints their trials beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--steps", type=int, default=540)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.chdir(scratch)
        world = World(seed=0, conversations=FULL.conversations, expert_share=FULL.expert_share)
        world.write(scratch / "world")
        write_model(scratch / "model", world.samples(), Size(), seed=0)
        studies = {each: tune(config(scratch, each, options.trials, options.steps)).trials for each in ("none", "asha")}
        best = {each: ranked(trials, "min")[0] for each, trials in studies.items()}
        _report(studies, best, noise_of(scratch, best["none"], options.steps))


def _report(studies: dict[str, list[TrialLog]], best: dict[str, TrialLog], noise: float) -> None:
    table = Table(title="held-out loss of the expert's conversations", title_justify="left")
    for heading in ("weight", "none: step", "loss", "asha: step", "loss"):
        table.add_column(heading, justify="right")
    by_name = {each: {log.trial: log for log in trials} for each, trials in studies.items()}
    for name, without in sorted(by_name["none"].items()):
        stopped = by_name["asha"][name]
        assert without.values == stopped.values
        cells = [cell for log in (without, stopped) for cell in (str(log.step), f"{log.score:.4f}")]
        table.add_row(f"{without.values['classes.weak.weight']:.4f}", *cells)
    console = Console()
    console.print(table)
    tokens = {each: sum(log.tokens for log in trials) for each, trials in studies.items()}
    share, behind = tokens["asha"] / tokens["none"], best["asha"].score - best["none"].score
    met = "met" if share <= SHARE_BAR else "NOT met"
    console.print(f"tokens {tokens['asha']:,} of {tokens['none']:,}: {share:.2f} (bar ≤ {SHARE_BAR}: {met})")
    same = "met" if behind <= noise else "NOT met"
    console.print(f"ASHA's best is {behind:+.4f} behind; another seed moves it by {noise:.4f} (bar: {same})")
    print(json.dumps({"share": share, "behind": behind, "noise": noise}))


if __name__ == "__main__":
    main()
