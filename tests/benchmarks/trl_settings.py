"""Which of TRL's settings are its fastest here: what `train.py` and `memory.py` compare ours with.

    python tests/benchmarks/trl_settings.py [--steps 2] [--rounds 2] [--only …]

SmolLM2-135M on chitchat conversations, packs of 2,048 tokens, 8,192 tokens a step, two threads: packed both ways and
padded, each with other attention, precision or micro-batches than the first of its kind. Conversations that are packed
by `bfd` are kept apart by a mask over the whole pack, those of `wrapped` are not. Padding-free batches and Liger's
kernels need a GPU. CPUs without bf16 units take the fp32 settings for the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import _learn  # noqa: E402
from tests.benchmarks._report import medians, report  # noqa: E402

BATCH_TOKENS = 8192
SETTINGS = {
    "packed (bfd)": ["bfd", "bf16"],
    "packed (bfd), eager attention": ["bfd", "bf16", "--attention", "eager"],
    "packed (bfd), two packs at a time": ["bfd", "bf16", "--each", "2"],
    "packed (bfd), fp32 weights, bf16 products": ["bfd", "autocast"],
    "packed (bfd), fp32": ["bfd", "fp32"],
    "packed (wrapped)": ["wrapped", "bf16"],
    "padded": ["padded", "bf16"],
    "padded, by length": ["padded", "bf16", "--grouped"],
    "padded, eager attention": ["padded", "bf16", "--attention", "eager"],
    "padded, eight at a time": ["padded", "bf16", "--each", "8"],
}
"""Kind, precision and flags of `_trl.py`."""


def main() -> None:
    """Prepares once, then takes all settings in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2, help="of which the first is not timed")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="settings whose names contain this")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps: at least 2")
    from crlft_ray.device import with_precision, worker_environment
    from crlft_ray.shards.prepare import model_path
    from tests.benchmarks._peers import peer_python

    found: dict[str, list[float]] = {name: [] for name in SETTINGS if arguments.only in name}
    with tempfile.TemporaryDirectory() as scratch:
        _learn.prepared(scratch, arguments.steps)
        run = with_precision(_learn.config(f"{scratch}/first", arguments.steps, workers=1))
        command = [str(peer_python()), str(Path(__file__).with_name("_trl.py")), str(model_path(run))]
        figures = [str(arguments.steps), str(BATCH_TOKENS), str(_learn.PACK_TOKENS)]
        for _ in range(arguments.rounds):
            for name, speeds in found.items():
                kind, precision, *flags = SETTINGS[name]
                precision = run.train.precision if precision == "bf16" else precision
                done = subprocess.run(
                    [*command, f"{scratch}/rows.json", kind, precision, *figures, *flags],
                    # What Ray gives our workers is given to all.
                    env=os.environ | worker_environment(run),
                    stdout=subprocess.PIPE, check=True, timeout=1800, text=True,
                )  # fmt: skip
                speeds += json.loads(done.stdout.splitlines()[-1])
                print(f"{name}: {speeds[-1]:.0f} tokens/s", flush=True)
            _report(found)


def _report(found: dict[str, list[float]]) -> None:
    """After every round: what was measured must not be lost with what comes later."""
    median = medians(found)
    for kind in ("packed", "padded"):
        if names := [name for name in median if name.startswith(kind)]:
            print(f"the fastest {kind}: {max(names, key=lambda name: median[name])}")
    report("trl", f"TRL's settings, packs of {_learn.PACK_TOKENS:,} tokens", "tokens/s", found)


if __name__ == "__main__":
    main()
