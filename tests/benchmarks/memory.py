"""Memory: the most that one training worker holds resident, against TRL, for longer and longer packs.

    python tests/benchmarks/memory.py [--rounds 1] [--longest 32768]

SmolLM2-135M on chitchat conversations, one worker with two threads, three steps of one pack each, with and without
gradient checkpointing; the longest packs with it, ours alone. TRL packs with `bfd` in an environment of its own. What
does not fit into this machine's memory is left out of the table, and said.
Bars: ≤ 0.6 of TRL; from 2k to 8k tokens no more than linear; with checkpointing a further token costs no more from
8k on than to there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.config import Config  # noqa: E402
from crlft_ray.device import worker_environment  # noqa: E402
from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._peers import peer_python  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

PACKS = (2048, 8192)
STEPS = 3
TRL_BAR = 0.6
GROWTH_BAR = 1.1


@dataclass(frozen=True)
class Case:
    """One way of training."""

    who: str
    pack_tokens: int
    checkpointed: bool

    def __str__(self) -> str:
        return f"{self.who}, {self.pack_tokens:,} tokens{', checkpointing' * self.checkpointed}"


def main() -> None:
    """Every case in a process of its own, ours and TRL's in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--longest", type=int, default=32768)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        who, pack_tokens, checkpointed = json.loads(arguments.only)
        print(_ours(Case(who, pack_tokens, checkpointed), arguments.output))
        return
    cases = [Case(who, size, flag) for size in PACKS for flag in (False, True) for who in ("ours", "TRL")]
    cases.append(Case("ours", arguments.longest, checkpointed=True))
    peer_python()
    found: dict[Case, list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sorted({case.pack_tokens for case in cases}):
            _learn.prepared(f"{scratch}/{size}", 1, pack_tokens=size)
        for number in range(arguments.rounds):
            for case in cases:
                try:
                    found[case].append(_measure(case, scratch, number))
                    print(f"{case}: {found[case][-1]:.2f} GB", flush=True)
                except subprocess.CalledProcessError as error:
                    # The kernel or Ray has killed it; whatever else it died of is no matter of memory.
                    if case.who == "TRL" and error.returncode != -signal.SIGKILL:
                        raise
                    print(f"{case}: does not fit (exit code {error.returncode})", flush=True)
            _report(found, arguments.longest)


def _report(found: dict[Case, list[float]], longest: int) -> None:
    measured = {str(case): values for case, values in found.items() if values}
    median = medians(measured)

    def of(who: str, size: int, flag: bool) -> float:
        """Infinite where it did not fit."""
        return median.get(str(Case(who, size, flag)), math.inf)

    def ratio(ours: float, other: float) -> float:
        """Where ours did not fit no bar is met, whatever else did not."""
        return math.inf if ours == math.inf else ours / other

    few, many = PACKS
    bars = []
    for flag in (False, True):
        how = ", checkpointing" * flag
        for size in PACKS:
            share = ratio(of("ours", size, flag), of("TRL", size, flag))
            bars.append(Bar(f"ours / TRL, {size:,} tokens{how}", share, TRL_BAR, at_least=False))
        growth = ratio(of("ours", many, flag), of("ours", few, flag))
        bars.append(Bar(f"ours, growth of it{how}", growth, many / few, at_least=False))
    first = (of("ours", many, True) - of("ours", few, True)) / (many - few)
    further = (of("ours", longest, True) - of("ours", many, True)) / (longest - many)
    print(f"ours, checkpointing: {first * 1e6:.0f} kB a token to {many:,}, {further * 1e6:.0f} kB from there")
    bars.append(Bar("a token from there / to there", ratio(further, first), GROWTH_BAR, at_least=False))
    report("memory", "most resident memory of a worker", "GB", measured, bars)


def _config(case: Case, output: str) -> Config:
    size = case.pack_tokens
    return _learn.config(output, STEPS, workers=1, pack_tokens=size, batch_tokens=size, checkpointing=case.checkpointed)


def _ours(case: Case, output: str) -> float:
    from crlft_ray.training.train import train

    run = _config(case, output)
    train(run)
    return max(record["train/memory_gb"] for record in _learn.step_records(run))


def _measure(case: Case, scratch: str, number: int) -> float:
    data = f"{scratch}/{case.pack_tokens}"
    output = _learn.new_output(data, f"{number}-{case.who}-{case.checkpointed}")
    if case.who == "ours":
        only = json.dumps([case.who, case.pack_tokens, case.checkpointed])
        command = [sys.executable, __file__, "--only", only, "--output", str(output)]
    else:
        from crlft_ray.device import with_precision
        from crlft_ray.shards.prepare import model_path

        run = with_precision(_config(case, str(output)))
        script, size = str(Path(__file__).with_name("_trl.py")), str(case.pack_tokens)
        command = [str(peer_python()), script, str(model_path(run)), f"{data}/rows.json", "bfd", run.train.precision]
        command += [str(STEPS), size, size, *(["--checkpointing"] * case.checkpointed), "--memory"]
    # What Ray gives our workers is given to TRL.
    environment = os.environ | (worker_environment(_config(case, str(output))) if case.who == "TRL" else {})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, timeout=1800, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
