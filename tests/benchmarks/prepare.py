"""`prepare` of all rated chitchat conversations: tokens/s after Ray has started, and how full the packs are.

    python tests/benchmarks/prepare.py [--runs 3]

Each run is a new process with a Ray cluster of its own. Bars: at least 400,000 tokens/s on 2 cores, 99.5 % of the
slots filled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
SPEED_BAR = 400_000
FILL_BAR = 0.995


def main() -> None:
    """Runs the measurement in fresh processes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure()))
        return
    table = Table(title=f"prepare of the chitchat conversations, {os.cpu_count()} cores", title_justify="left")
    for heading in ("run", "seconds", "tokens", "tokens/s", "rows/s", "fill", "load before"):
        table.add_column(heading, justify="right")
    speeds, fills = [], []
    for number in range(arguments.runs):
        load = os.getloadavg()[0]
        command = [sys.executable, __file__, "--once"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        speeds.append(found["tokens"] / found["seconds"])
        fills.append(found["fill"])
        table.add_row(
            str(number + 1), f"{found['seconds']:.2f}", f"{found['tokens']:,}", f"{speeds[-1]:,.0f}",
            f"{found['rows'] / found['seconds']:,.0f}", f"{found['fill']:.4%}", f"{load:.1f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    spread = f"{min(speeds):,.0f} / {statistics.median(speeds):,.0f} / {max(speeds):,.0f}"
    console.print(f"tokens/s, lowest / median / highest: {spread}", highlight=False)
    fast = "met" if statistics.median(speeds) >= SPEED_BAR else "NOT met"
    full = "met" if min(fills) >= FILL_BAR else "NOT met"
    console.print(f"bars: median ≥ {SPEED_BAR:,} tokens/s {fast}; fill ≥ {FILL_BAR:.1%} {full}", highlight=False)


def measure() -> dict[str, float]:
    """One `prepare` into an empty folder, after Ray has started."""
    from crlft_ray.assets import fetch
    from crlft_ray.config import load_config
    from crlft_ray.ray_session import connect
    from crlft_ray.shards.prepare import prepare

    fetch(["chitchat", "smollm2-135m"])
    connect()
    with tempfile.TemporaryDirectory() as output:
        prepared = prepare(
            load_config(ROOT / "jobs/configs/quickstart.yaml", [f"output={output}/run", "data.pack_tokens=4096"])
        )
    manifest = prepared.manifest
    return {
        "seconds": prepared.seconds,
        "tokens": manifest.tokens,
        "fill": manifest.fill,
        "rows": manifest.counts["rows"],
    }


if __name__ == "__main__":
    main()
