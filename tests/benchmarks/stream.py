"""What a worker can receive: tokens/s of the Ray Data stream, and the time to its first pack.

    python tests/benchmarks/stream.py [--epochs 5]

Bar: at least 200,000 tokens/s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crlft_ray.config import load_config
from crlft_ray.ray_session import connect
from crlft_ray.shards.order import Order
from crlft_ray.shards.prepare import prepare
from crlft_ray.shards.stream import stream
from crlft_ray.storage import Place

ROOT = Path(__file__).parents[2]
BAR = 200_000


def main() -> None:
    """Prepares the chitchat shards and reads them from a start and from a step in the middle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    connect()
    table = Table(title="stream of one rank", title_justify="left")
    for heading in ("from", "tokens/s", "first pack s", "packs"):
        table.add_column(heading, justify="right")
    speeds = []
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(load_config(ROOT / "jobs/configs/quickstart.yaml", [f"output={scratch}"]))
        order = Order(prepared.manifest.packs, 4, prepared.manifest.fingerprint, seed=0)
        last = order.steps_per_epoch * epochs
        for first in (0, last // 2):
            tokens, packs, first_pack = 0, 0, 0.0
            began = time.perf_counter()
            for pack in stream(
                Place.of(prepared.folder), prepared.manifest, order,
                first_step=first, last_step=last, rank=0, world_size=1,
            ):  # fmt: skip
                first_pack = first_pack or time.perf_counter() - began
                tokens += len(pack.input_ids_T)
                packs += 1
            speeds.append(tokens / (time.perf_counter() - began))
            table.add_row(f"step {first}", f"{speeds[-1]:,.0f}", f"{first_pack:.2f}", str(packs))
    console = Console()
    console.print(table)
    met = min(speeds) >= BAR
    console.print(f"bar ≥ {BAR:,} tokens/s: {'met' if met else 'NOT met'}", highlight=False)


if __name__ == "__main__":
    main()
