"""Training speed: two ZeRO-3 workers with one thread each against a bare PyTorch loop with two threads.

    python tests/benchmarks/train.py [--steps 3] [--rounds 2]

Both learn from the same packs of the chitchat conversations (SmolLM2-135M, the same attention, loss and optimizer, in
bf16, or in fp32 on CPUs that cannot multiply bf16), in turn, in processes of their own. Bar: at least 0.8 of the bare
loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crlft_ray.config import Config, load_config

ROOT = Path(__file__).parents[2]
BAR = 0.8


def config(output: str, steps: int) -> Config:
    """The quickstart at the default global batch."""
    overrides = [f"output={output}", "train.global_batch_tokens=16384", f"train.max_steps={steps}"]
    return load_config(ROOT / "jobs/configs/quickstart.yaml", [*overrides, "train.checkpoint_every=1000000"])


def ours(output: str, steps: int) -> list[float]:
    """Tokens/s of each step but the first, by Ray Train with two ZeRO-3 workers."""
    from crlft_ray.tracking import read_records
    from crlft_ray.training.tracked import tracking_folder
    from crlft_ray.training.train import train

    run = config(output, steps)
    train(run)
    records = read_records(tracking_folder(run) / "metrics.jsonl")
    speeds = [record.metrics["train/tokens_per_s"] for record in records if "train/tokens_per_s" in record.metrics]
    assert len(speeds) == steps
    return speeds[1:]


def bare(output: str, steps: int) -> list[float]:
    """Tokens/s of each step but the first, without Ray and DeepSpeed, in this process with two threads."""
    import numpy as np
    import torch

    from crlft_ray.device import with_precision
    from crlft_ray.model.batch import micro_batch
    from crlft_ray.model.load import add_tokens, load_model
    from crlft_ray.model.packed import PackedModel
    from crlft_ray.shards.manifest import read_manifest
    from crlft_ray.shards.order import Order
    from crlft_ray.shards.prepare import chat_tokenizer, model_path, shards_folder
    from crlft_ray.shards.shard import pack_of
    from crlft_ray.shards.stream import PackReader

    torch.set_num_threads(2)
    run = with_precision(config(output, steps))
    folder = shards_folder(run)
    manifest = read_manifest(folder)
    order = Order(manifest.packs, run.train.global_batch_tokens // run.data.pack_tokens, manifest.fingerprint, 0)
    reader = PackReader(folder, manifest)
    model = load_model(model_path(run), run.train.precision)
    add_tokens(model, chat_tokenizer(run))
    packed = PackedModel(model).train()
    optimizer = torch.optim.AdamW(packed.parameters(), lr=1e-5, fused=True)
    weights = torch.tensor(run.class_weights())
    speeds = []
    for step in range(steps):
        began = time.perf_counter()
        numbers = order.pack_numbers(step, np.arange(order.packs_of_step(step)), 0, 1)
        batches = [micro_batch(pack_of(reader(int(number)))) for number in numbers]
        total = sum(float(batch.weights_L(weights).sum()) for batch in batches)
        for batch in batches:
            ((packed(batch) * batch.weights_L(weights)).sum() / total).backward()
        torch.nn.utils.clip_grad_norm_(packed.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        speeds.append(sum(len(batch.input_ids_T) for batch in batches) / (time.perf_counter() - began))
    return speeds[1:]


def main() -> None:
    """Prepares once, then alternates the two in fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["ours", "bare"], help="used by the benchmark itself")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    if arguments.only:
        found = {"ours": ours, "bare": bare}[arguments.only](arguments.output, arguments.steps)
        print(json.dumps(found))
        return
    speeds: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as scratch:
        _prepare(scratch, arguments.steps)
        for number in range(arguments.rounds):
            for name in speeds:
                output = f"{scratch}/{number}"
                speeds[name] += _measure(name, output, f"{scratch}/shards", arguments.steps)
    _report(speeds)


def _prepare(scratch: str, steps: int) -> None:
    code = (
        "from crlft_ray.shards.prepare import prepare; from tests.benchmarks.train import config; "
        f"prepare(config({scratch!r}, {steps}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=600)


def _measure(name: str, output: str, shards: str, steps: int) -> list[float]:
    Path(output).mkdir(exist_ok=True)
    link = Path(output) / "shards"
    if not link.exists():
        link.symlink_to(shards)
    command = [sys.executable, __file__, "--only", name, "--output", output, "--steps", str(steps)]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=1800, stdout=subprocess.PIPE, text=True)
    return list(map(float, json.loads(done.stdout.splitlines()[-1])))


def _report(speeds: dict[str, list[float]]) -> None:
    table = Table(title="training, tokens/s per step", title_justify="left")
    for heading in ("", "median", "min", "max", "steps"):
        table.add_column(heading, justify="right")
    for name, label in (("ours", "2 ZeRO-3 workers × 1 thread"), ("bare", "bare loop × 2 threads")):
        found = speeds[name]
        table.add_row(label, *(f"{f(found):.0f}" for f in (statistics.median, min, max)), str(len(found)))
    console = Console()
    console.print(table)
    ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["bare"])
    console.print(f"ratio of medians {ratio:.2f}; bar ≥ {BAR}: {'met' if ratio >= BAR else 'NOT met'}", highlight=False)


if __name__ == "__main__":
    main()
