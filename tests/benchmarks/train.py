"""Training speed: ZeRO-3 under Ray Train against a bare PyTorch loop, TRL, and what the machine's matrix units reach.

    python tests/benchmarks/train.py [--data chitchat|short] [--pack-tokens 2048] [--steps 3] [--rounds 3] [--rows …]

All learn SmolLM2-135M on the same conversations, on two cores, in turn, in processes of their own; bf16, or fp32 on
CPUs that cannot multiply bf16; 16,384 tokens a step. `chitchat` are the chitchat conversations, `short` its single
exchanges. The bare loop has the same packs, attention, loss and optimizer, with fp32 weights beside the model's, and no
framework; once more it has bf16 weights alone. `engine` is ZeRO-3 without Ray. TRL runs in an environment of its own,
packed both ways and padded. Padding does not count as tokens.
Bars: one worker ≥ 0.97 of the bare loop, ≥ 3 × TRL packed, ≥ 4 × padded, at least half of the matrix rate; two workers
and four (of one thread each) ≥ 0.9 of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config  # noqa: E402
from crlft_ray.device import worker_environment  # noqa: E402
from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

ROWS = {
    "one": "1 ZeRO-3 worker × 2 threads",
    "two": "2 ZeRO-3 workers × 1 thread",
    "four": "4 ZeRO-3 workers × 1 thread",
    "engine": "ZeRO-3 without Ray × 2 threads",
    "bare": "bare loop × 2 threads",
    "rounded": "bare loop, weights in bf16 alone",
    "trl-bfd": "TRL, packed (bfd)",
    "trl-wrapped": "TRL, packed (wrapped)",
    "trl-padded": "TRL, padded",
    "limit": "the matrix units' limit",
}
BARS = {"bare": 0.97, "trl-bfd": 3.0, "trl-wrapped": 3.0, "trl-padded": 4.0, "limit": 0.5}
"""What one worker has to be, as a multiple."""
ZERO3_BAR = 0.9
"""Two and four workers against one."""
_WORKERS = {"one": 1, "two": 2, "four": 4}


def main() -> None:
    """Prepares once, then takes the rows in turn, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["chitchat", "short"], default="chitchat")
    parser.add_argument("--pack-tokens", type=int, default=_learn.PACK_TOKENS)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS), help=", ".join(ROWS))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        workers = _WORKERS.get(arguments.only, 1)
        print(json.dumps(_tokens_per_s(arguments.only, _config(arguments.output, arguments, workers))))
        return
    speeds: dict[str, list[float]] = {name: [] for name in arguments.rows.split(",")}
    with tempfile.TemporaryDirectory() as scratch:
        _learn.prepared(scratch, arguments.steps, arguments.data, arguments.pack_tokens)
        for number in range(arguments.rounds):
            for name in speeds:
                speeds[name] += _measure(name, f"{number}-{name}", scratch, arguments)
            _report(speeds, arguments)


def _report(speeds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """After every round: what was measured must not be lost with what comes later."""
    median = medians(speeds)
    bars = []
    if one := median.get("one"):
        bars = [
            Bar(f"one worker / {ROWS[peer]}", one / median[peer], bar) for peer, bar in BARS.items() if peer in median
        ]
        more = (name for name in ("two", "four") if name in median)
        bars += [Bar(f"{name} workers / one", median[name] / one, ZERO3_BAR) for name in more]
    found = {ROWS[name]: values for name, values in speeds.items()}
    title = f"training on {arguments.data} conversations, packs of {arguments.pack_tokens:,} tokens"
    report(f"train-{arguments.data}-{arguments.pack_tokens}", title, "tokens/s", found, bars)


def _config(output: str, arguments: argparse.Namespace, workers: int = 1) -> Config:
    return _learn.config(
        output, arguments.steps, workers=workers, data=arguments.data, pack_tokens=arguments.pack_tokens
    )


def _tokens_per_s(row: str, run: Config) -> list[float]:
    rows: dict[str, Callable[[Any], list[float]]] = {
        "engine": _learn.engine, "bare": _learn.bare, "limit": _learn.limit,
        "rounded": partial(_learn.bare, rounded=True),
    }  # fmt: skip
    seconds = rows.get(row, _learn.whole)(run)
    return [tokens / each for tokens, each in zip(_learn.tokens_of_steps(run)[1:], seconds, strict=True)]


def _measure(name: str, folder: str, scratch: str, arguments: argparse.Namespace) -> list[float]:
    output = str(_learn.new_output(scratch, folder))
    command = [sys.executable, __file__, "--only", name, "--output", output]
    command += ["--steps", str(arguments.steps), "--data", arguments.data]
    command += ["--pack-tokens", str(arguments.pack_tokens)]
    if name.startswith("trl-"):
        command = _trl_command(name.removeprefix("trl-"), output, scratch, arguments)
    # What Ray gives our workers is given to all.
    environment = os.environ | worker_environment(_config(output, arguments))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, timeout=1800, stdout=subprocess.PIPE, text=True
    )
    return list(map(float, json.loads(done.stdout.splitlines()[-1])))


def _trl_command(kind: str, output: str, scratch: str, arguments: argparse.Namespace) -> list[str]:
    from crlft_ray.device import with_precision
    from crlft_ray.shards.prepare import model_path
    from tests.benchmarks._peers import peer_python

    run = with_precision(_config(output, arguments))
    script = str(Path(__file__).with_name("_trl.py"))
    figures = [str(arguments.steps), str(_learn.BATCH_TOKENS), str(run.data.pack_tokens)]
    model, rows = str(model_path(run)), f"{scratch}/rows.json"
    return [str(peer_python()), script, model, rows, kind, run.train.precision, *figures]


if __name__ == "__main__":
    main()
