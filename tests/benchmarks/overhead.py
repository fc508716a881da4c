"""What the layers around a step cost, each measured by leaving it out.

    python tests/benchmarks/overhead.py [--steps 5] [--rounds 3] [--rows bare,engine,…] [--batch-tokens 16384]

One worker with two threads learns SmolLM2-135M from chitchat conversations, each way in a process of its own, in turn:
the bare loop; ZeRO-3's engine alone, and beside a Ray that has nothing to do; Ray Train with everything; the same
without tracking (no metric leaves the worker), and without progress (the driver waits for the end and asks nothing).
A step of Ray Train's is the time from one's end to the next one's, so all that happens between them is in it. `between`
is that part alone, without what Ray's processes take from the step itself. Nobody is shown any logs of a run, so there
is no logging to leave out.
Bars: all together ≤ 3 % of a step, tracking ≤ 0.5 %, waiting for data < 1 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config  # noqa: E402
from crlft_ray.device import worker_environment  # noqa: E402
from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

TOGETHER_BAR, TRACKING_BAR, WAIT_BAR = 0.03, 0.005, 0.01
ROWS = {
    "bare": "bare loop",
    "engine": "ZeRO-3",
    "beside": "ZeRO-3 beside an idle Ray",
    "whole": "Ray Train with everything",
    "untracked": "without tracking",
    "unwatched": "without progress",
}
_PARTS = {"between": "between steps", "waiting": "waiting for data"}


def main() -> None:
    """Prepares once, then alternates the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS), help=", ".join(ROWS))
    parser.add_argument("--batch-tokens", type=int, default=_learn.BATCH_TOKENS, help="of a step")
    parser.add_argument("--only", choices=list(ROWS), help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measure(arguments.only, _config(arguments.output, arguments))))
        return
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        _learn.prepared(scratch, 1)
        for number in range(arguments.rounds):
            for name in arguments.rows.split(","):
                output = _learn.new_output(scratch, f"{number}-{name}")
                command = [sys.executable, __file__, "--only", name, "--output", str(output)]
                command += ["--steps", str(arguments.steps), "--batch-tokens", str(arguments.batch_tokens)]
                # What Ray gives our workers is given to all.
                environment = os.environ | worker_environment(_config(str(output), arguments))
                done = subprocess.run(
                    command, cwd=ROOT, env=environment, check=True, timeout=1800, stdout=subprocess.PIPE, text=True
                )
                for row, values in json.loads(done.stdout.splitlines()[-1]).items():
                    found.setdefault(row, []).extend(values)
            _report(found, arguments.batch_tokens)


def _config(output: str, arguments: argparse.Namespace) -> Config:
    return _learn.config(output, arguments.steps, workers=1, batch_tokens=arguments.batch_tokens)


def _report(found: dict[str, list[float]], batch_tokens: int) -> None:
    """After every round: what was measured must not be lost with what comes later."""
    median = medians(found)
    names = {**ROWS, **_PARTS}
    bars = []
    if whole := median.get("whole"):
        bounds = {"bare": TOGETHER_BAR, "untracked": TRACKING_BAR}
        bars = [
            Bar(f"{ROWS['whole']} / {ROWS[row]} - 1", whole / median[row] - 1, bound, at_least=False)
            for row, bound in bounds.items()
            if row in median
        ]
        bars.append(Bar("between steps / step", median["between"] / whole, TRACKING_BAR, at_least=False))
        bars.append(Bar("waiting for data / step", median["waiting"] / whole, WAIT_BAR, at_least=False))
        for row in median.keys() & {"engine", "beside", "unwatched"}:
            print(f"{ROWS['whole']} / {names[row]} - 1: {whole / median[row] - 1:.4f}")
    report(
        "overhead", f"a step of {batch_tokens:,} tokens", "s", {names[row]: each for row, each in found.items()}, bars
    )


def _measure(name: str, run: Config) -> dict[str, list[float]]:
    if name == "bare":
        return {name: _learn.bare(run)}
    if name == "beside":
        from crlft_ray.ray_session import connect

        connect()
    if name in ("engine", "beside"):
        return {name: _learn.engine(run)}
    ends = _ends(name, run)
    found = {name: [after - before for before, after in pairwise(ends)]}
    if name == "whole":
        records = _learn.step_records(run)[1:]
        steps = zip(found[name], records, strict=True)
        found["between"] = [seconds - record["train/step_s"] for seconds, record in steps]
        found["waiting"] = [record["train/wait_s"] for record in records]
    return found


def _ends(name: str, run: Config) -> list[float]:
    """When each step has ended by the worker's clock, with everything or without one layer."""
    from crlft_ray.training import fit
    from crlft_ray.training.train import train
    from crlft_ray.training.worker import train_worker

    ends, tracked = Path(run.output) / "ends.txt", name != "untracked"

    def timed_worker(job: Any) -> Any:
        import time

        from crlft_ray.training.reports import Reports

        metrics, step = Reports.metrics, Reports.step

        def timed_step(*positional: Any, **named: Any) -> None:
            step(*positional, **named)
            with ends.open("a") as file:
                file.write(f"{time.perf_counter()}\n")

        Reports.step = timed_step  # type: ignore[method-assign]
        Reports.metrics = metrics if tracked else lambda *_: None  # type: ignore[method-assign]
        return train_worker(job)

    vars(fit)["train_worker"] = timed_worker
    if name == "unwatched":
        vars(fit)["_watch"] = lambda _, fitting, *__: fitting.exception()
    train(run)
    return [float(line) for line in ends.read_text().splitlines()]


if __name__ == "__main__":
    main()
