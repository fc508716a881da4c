"""What the layers around a step cost: the bare loop, then ZeRO-3's engine, then Ray Train with everything.

    python tests/benchmarks/overhead.py [--steps 5] [--rounds 3]

One worker with two threads learns SmolLM2-135M from 16,384 tokens of chitchat conversations a step, each way in a
process of its own, in turn. `between` is the time from one step's end to the next one's beginning: tracking, progress,
the order to stop. Bars: all together ≤ 3 % of a step, tracking ≤ 0.5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config  # noqa: E402
from crlft_ray.device import worker_environment  # noqa: E402
from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

TOGETHER_BAR, TRACKING_BAR = 0.03, 0.005


def main() -> None:
    """Prepares once, then alternates the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["bare", "engine", "whole"], help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measure(arguments.only, arguments.output, arguments.steps)))
        return
    found: dict[str, list[float]] = {"bare": [], "engine": [], "whole": [], "between": [], "waiting for data": []}
    with tempfile.TemporaryDirectory() as scratch:
        _learn.prepared(scratch, 1)
        for number in range(arguments.rounds):
            for name in ("bare", "engine", "whole"):
                output = _learn.new_output(scratch, f"{number}-{name}")
                command = [sys.executable, __file__, "--only", name, "--output", str(output)]
                command += ["--steps", str(arguments.steps)]
                # What Ray gives our workers is given to all.
                environment = os.environ | worker_environment(_learn.config(str(output), arguments.steps, workers=1))
                done = subprocess.run(
                    command, cwd=ROOT, env=environment, check=True, timeout=1800, stdout=subprocess.PIPE, text=True
                )
                for row, values in json.loads(done.stdout.splitlines()[-1]).items():
                    found[row] += values
            _report(found)


def _report(found: dict[str, list[float]]) -> None:
    median = medians(found)
    everything = median["whole"] + median["between"]
    bars = [
        Bar("all layers / bare", everything / median["bare"] - 1, TOGETHER_BAR, at_least=False),
        Bar("between steps (tracking, progress) / step", median["between"] / everything, TRACKING_BAR, at_least=False),
    ]
    report("overhead", "a step of 16,384 tokens", "s", found, bars)


def _measure(name: str, output: str, steps: int) -> dict[str, list[float]]:
    run = _learn.config(output, steps, workers=1)
    ways: dict[str, Callable[[Config], list[float]]] = {"bare": _learn.bare, "engine": _learn.engine}
    if name in ways:
        return {name: ways[name](run)}
    _learn.whole(run)
    records = _learn.step_records(run)
    between = [now["time_s"] - now["train/step_s"] - before["time_s"] for before, now in pairwise(records)]
    return {
        "whole": [record["train/step_s"] for record in records[1:]],
        "between": between,
        "waiting for data": [record["train/wait_s"] for record in records[1:]],
    }


if __name__ == "__main__":
    main()
