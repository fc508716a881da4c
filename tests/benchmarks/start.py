"""How long until something happens: `crlft --help`, and `crlft train` up to its first step.

    python tests/benchmarks/start.py [--rounds 5]

`train` learns SmolLM2-135M from shards that are there, with two workers, whatever DeepSpeed compiles being compiled.
`workers` is up to the first worker's first line (Ray, MLflow, the workers' processes); `model` their imports, the
model and the engine; `first step begins` all of it until data is there. Bars: help < 0.5 s; first step < 25 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

HELP_BAR, TRAIN_BAR = 0.5, 25.0
CRLFT = str(Path(sys.executable).with_name("crlft"))


def main() -> None:
    """Alternates the two commands, each a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {"crlft --help": [], "workers": [], "model": [], "first step begins": []}
    with tempfile.TemporaryDirectory() as scratch:
        _learn.prepared(scratch, 1)
        for number in range(rounds):
            began = time.perf_counter()
            subprocess.run([CRLFT, "--help"], check=True, stdout=subprocess.DEVNULL)
            found["crlft --help"].append(time.perf_counter() - began)
            for part, seconds in _train(scratch, number).items():
                found[part].append(seconds)
    median = medians(found)
    bars = [
        Bar("crlft --help, s", median["crlft --help"], HELP_BAR, at_least=False),
        Bar("crlft train to the first step, s", median["first step begins"], TRAIN_BAR, at_least=False),
    ]
    report("start", "from the command to", "s", found, bars)


def _train(scratch: str, number: int) -> dict[str, float]:
    """Seconds from the command to the end of each part."""
    from crlft_ray.tracking import read_records
    from crlft_ray.training.tracked import tracking_folder

    output = _learn.new_output(scratch, str(number))
    run = _learn.config(str(output), 1, batch_tokens=2 * _learn.PACK_TOKENS)
    config = output / "start.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    began = time.time()
    subprocess.run([CRLFT, "train", str(config)], cwd=ROOT, check=True, capture_output=True, timeout=600)
    records = read_records(tracking_folder(run) / "metrics.jsonl")
    parts = next(record.metrics for record in records if "start/workers_s" in record.metrics)
    (step,) = [record for record in records if "train/step_s" in record.metrics]
    begins = step.time_ms / 1e3 - step.metrics["train/step_s"] - began
    return {"workers": parts["start/workers_s"], "model": parts["start/model_s"], "first step begins": begins}


if __name__ == "__main__":
    main()
