"""What workers can receive: tokens/s of the stream, how long they wait, and the time to the first pack.

    python tests/benchmarks/stream.py [--readers 1,2,4,8,32] [--packs 2000] [--runs 3]

Chitchat shards (packs of 2,048 tokens), on this machine's disk, there again as many small ones, and on an S3 store on
this machine, listed over and over until an epoch has 1,000,000 packs. Each reader is a process that takes its rank's
packs as fast as they come; all readers together take `--packs`. One reader alone goes on late in the epoch, as after a
kill, and the first pack is timed from a start and from there. MosaicML's streaming reads the same packs, written in its
own format, in an environment of its own.
Bars: all readers together ≥ 20 × what training consumes here (`train.py`: about 600 tokens/s); the first pack < 3 s,
also late in the epoch. What a training waits for its packs is in `overhead.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.shards.manifest import Manifest  # noqa: E402
from crlft_ray.storage import Place  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

EPOCH_PACKS = 1_000_000
SMALL_SHARD = 128 << 10
"""Bytes of the input that become a small shard."""
PACKS_PER_STEP = 64
TRAINED_PER_S = 600
SPEED_BAR, FIRST_BAR_S = 20 * TRAINED_PER_S, 3.0


def main() -> None:
    """Prepares once; then every number of readers on both stores, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", default="1,2,4,8,32")
    parser.add_argument("--packs", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    speeds: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    late = EPOCH_PACKS // PACKS_PER_STEP * 9 // 10
    with tempfile.TemporaryDirectory() as scratch, _stores(Path(scratch)) as stores:
        for _ in range(arguments.runs):
            for readers, when, step in (
                *((int(readers), "", 0) for readers in arguments.readers.split(",")),
                (1, ", late in the epoch", late),
            ):
                for name, (folder, manifest) in stores.items():
                    tokens_per_s, waits = _read(folder, manifest, readers, arguments.packs // readers, step)
                    row = f"{name}, {readers} reader(s){when}"
                    speeds.setdefault(row, []).append(tokens_per_s)
                    print(f"{row}: a wait in 100 is over {waits * 1e3:.1f} ms", flush=True)
            for name, (folder, manifest) in stores.items():
                for when, step in (("at the start", 0), ("late in the epoch", late)):
                    firsts.setdefault(f"{name}, {when}", []).append(_first(folder, manifest, step))
            speeds.setdefault("MosaicML, disk, 1 reader", []).append(_mosaic(scratch, *stores["disk"]))
    ours = {row: median for row, median in medians(speeds).items() if not row.startswith("MosaicML")}
    first = medians(firsts)
    bars = [Bar(f"{row}, tokens/s", median, SPEED_BAR) for row, median in ours.items()]
    bars += [Bar(f"first pack, {row}, s", median, FIRST_BAR_S, at_least=False) for row, median in first.items()]
    report("stream", "stream of packs", "tokens/s of all readers", speeds, bars, {"first_pack_s": firsts})


@contextmanager
def _stores(scratch: Path) -> Iterator[dict[str, tuple[Place, Manifest]]]:
    """Where shards are, each with the manifest of a long epoch."""
    from crlft_ray.config import load_config
    from crlft_ray.ray_session import connect
    from crlft_ray.shards.prepare import DEFAULT_SIZES, prepare
    from tests.object_store import ObjectStore

    connect(cpus=64)
    stores: dict[str, tuple[Place, Manifest]] = {}
    for name, sizes in (("disk", DEFAULT_SIZES), ("disk, small shards", replace(DEFAULT_SIZES, bucket=SMALL_SHARD))):
        config = load_config(ROOT / "jobs/configs/quickstart.yaml", [f"output={scratch}/{len(stores)}"])
        prepared = prepare(config, sizes)
        manifest = prepared.manifest
        print(f"{name}: {len(manifest.shards)} shard(s), {manifest.packs} packs", flush=True)
        times = -(-EPOCH_PACKS // manifest.packs)
        long = replace(manifest, packs=manifest.packs * times, shards=manifest.shards * times)
        stores[name] = Place.of(prepared.folder), long
    store = ObjectStore()
    try:
        remote = Place.of(store.uri("shards"))
        remote.make_folder()
        folder, manifest = stores["disk"]
        remote.copy_from_local(Path(folder.path))
        yield {**stores, "S3": (remote, manifest)}
    finally:
        store.end()


def _read(folder: Place, manifest: Manifest, readers: int, packs: int, step: int) -> tuple[float, float]:
    """Tokens/s of all readers, and the 99th percentile of one reader's waits in seconds."""
    import ray

    reading = ray.remote(num_cpus=0)(_reader)
    taken = ray.get([reading.remote(folder, manifest, rank, readers, packs, step) for rank in range(readers)])
    begins, ends = min(begin for begin, *_ in taken), max(end for _, end, *_ in taken)
    waits = [wait for *_, of_reader in taken for wait in of_reader[1:]]
    return sum(tokens for _, _, tokens, _ in taken) / (ends - begins), statistics.quantiles(waits, n=100)[-1]


def _reader(
    folder: Place, manifest: Manifest, rank: int, readers: int, packs: int, step: int
) -> tuple[float, float, int, list[float]]:
    from itertools import islice

    from crlft_ray.shards.order import Order
    from crlft_ray.shards.stream import stream

    order = Order(manifest.packs, PACKS_PER_STEP, manifest.fingerprint, 0)
    last = step + -(-packs * readers // PACKS_PER_STEP) + 1
    tokens, waits, begins = 0, [], 0.0
    asked = time.time()
    for pack in islice(
        stream(folder, manifest, order, first_step=step, last_step=last, rank=rank, world_size=readers), packs
    ):
        now = time.time()
        begins = begins or now
        waits.append(now - asked)
        tokens += len(pack.input_ids_T)
        asked = time.time()
    # The first pack is the subject of a figure of its own.
    return begins, time.time(), tokens, waits


def _first(folder: Place, manifest: Manifest, step: int) -> float:
    """Seconds until a new process with a connection to Ray has its first pack."""
    import ray

    taken: Any = ray.get(ray.remote(num_cpus=0, max_calls=1)(_reader).remote(folder, manifest, 0, 1, 1, step))
    return float(taken[-1][0])


def _mosaic(scratch: str, folder: Place, manifest: Manifest) -> float:
    from crlft_ray.shards.shard import pack_of
    from crlft_ray.shards.stream import PackReader
    from tests.benchmarks._peers import peer_python

    packs = Path(scratch, "packs.json")
    if not packs.exists():
        reader = PackReader(folder, manifest)
        packs.write_text(json.dumps([pack_of(reader(number)).input_ids_T.tolist() for number in range(500)]))
    script = str(Path(__file__).with_name("_mosaic.py"))
    done = subprocess.run(
        [str(peer_python()), script, str(packs)], check=True, timeout=600, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
