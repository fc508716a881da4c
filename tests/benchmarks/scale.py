"""What 10⁸ conversations, 10¹¹ tokens, and 1,024 ranks would cost: packing, the manifest, and a rank's order.

    python tests/benchmarks/scale.py [--conversations 100000000]

Lengths are like ShareGPT's (see pack.py), packs hold 4,096 tokens, shards 256 MB. Measured in processes of their own,
with the most memory that each holds beyond what it held before: packing all lengths at once, which `prepare` does
bucket by bucket; reading the manifest; a rank's share of the order for one epoch, evaluated as the stream does it.
Bars: packing < 60 s; the order's memory does not grow with the data.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks._report import Bar, report  # noqa: E402
from tests.benchmarks.pack import PACK_TOKENS, lengths_of  # noqa: E402

RANKS = 1024
PACKS_PER_STEP = 2048
PACKS_PER_SHARD = 8192
"""Of 8 bytes a token or so: 256 MB."""
PLAN_BAR_S, ORDER_BAR_GB = 60.0, 0.1


def packing(conversations: int) -> dict[str, float]:
    """The plan of all packs."""
    from crlft_ray.shards.pack import best_fit_decreasing

    lengths = lengths_of(conversations)
    before = _resident_gb()
    began = time.perf_counter()
    packs = best_fit_decreasing(lengths, PACK_TOKENS)
    return {"seconds": time.perf_counter() - began, "gb": _peak_gb() - before, "packs": len(packs)}


def order(packs: int) -> dict[str, float]:
    """Every pack number of one rank's epoch, in the spans that a task of the stream reads."""
    import numpy as np

    from crlft_ray.shards.order import Order

    found = Order(packs, PACKS_PER_STEP, "fingerprint", 0)
    before = _resident_gb()
    began = time.perf_counter()
    count = found.count(0, found.steps_per_epoch, RANKS - 1, RANKS)
    for start in range(0, count, 8):
        found.pack_numbers(0, np.arange(start, min(start + 8, count)), RANKS - 1, RANKS)
    return {"seconds": time.perf_counter() - began, "gb": _peak_gb() - before, "packs": count}


def manifest(packs: int) -> dict[str, float]:
    """Written, and read by a rank, with every shard's file there."""
    from crlft_ray.shards.manifest import Manifest, ShardInfo, read_manifest
    from crlft_ray.storage import Place

    with tempfile.TemporaryDirectory() as folder:
        shards = [
            ShardInfo(f"shard-{number:05}.arrow", PACKS_PER_SHARD, PACKS_PER_SHARD * PACK_TOKENS, "0" * 64)
            for number in range(-(-packs // PACKS_PER_SHARD))
        ]
        for shard in shards:
            Path(folder, shard.file).touch()
        settings = {"format_version": 1, "pack_tokens": PACK_TOKENS}
        whole = Manifest("0" * 64, settings, [], {}, packs, packs * PACK_TOKENS, 1.0, shards, [])
        Path(folder, "manifest.json").write_text(whole.to_json(), encoding="utf-8")
        before = _resident_gb()
        began = time.perf_counter()
        read_manifest(Place.of(folder))
        return {"seconds": time.perf_counter() - began, "gb": _peak_gb() - before, "packs": packs}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _resident_gb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e9


WAYS: dict[str, Callable[[int], dict[str, float]]] = {"packing": packing, "order": order, "manifest": manifest}


def main() -> None:
    """Each measurement for a tenth of the data and for all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=100_000_000)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(WAYS[arguments.only](arguments.count)))
        return
    found: dict[str, dict[str, float]] = {}
    for conversations in (arguments.conversations // 10, arguments.conversations):
        plan = found[f"packing, {conversations:,} conversations"] = _measure("packing", conversations)
        for name in ("order", "manifest"):
            found[f"{name}, {int(plan['packs']):,} packs"] = _measure(name, int(plan["packs"]))
    for name, figures in found.items():
        print(f"{name}: {figures['seconds']:.2f} s, {figures['gb']:.3f} GB more")
    few, many = (figures for name, figures in found.items() if name.startswith("order"))
    plan = next(figures for name, figures in reversed(found.items()) if name.startswith("packing"))
    a_pack = many["seconds"] / many["packs"]
    bars = [
        Bar("packing all, s", plan["seconds"], PLAN_BAR_S, at_least=False),
        Bar("memory of a rank's order, GB", max(few["gb"], many["gb"]), ORDER_BAR_GB, at_least=False),
    ]
    print(f"a rank's order: {a_pack * 1e6:.0f} µs a pack, {PACK_TOKENS / a_pack:,.0f} tokens/s")
    report(
        "scale", f"{RANKS:,} ranks", "s", {name: [figures["seconds"]] for name, figures in found.items()}, bars, found
    )


def _measure(name: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", name, "--count", str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=3600, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
