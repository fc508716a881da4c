"""Training speed: ZeRO-3 under Ray Train against a bare PyTorch loop, TRL, and what the machine's matrix units reach.

    python tests/benchmarks/train.py [--steps 3] [--rounds 2] [--rows one,bare]

All learn SmolLM2-135M on the same chitchat conversations, on two cores, in turn, in processes of their own; bf16, or
fp32 on CPUs that cannot multiply bf16. The bare loop has the same packs, attention, loss and optimizer, and no
framework. TRL runs in an environment of its own, packed both ways and padded. Padding does not count as tokens.
Bars: two workers ≥ 0.8 of the bare loop; one ≥ 0.97 of it, ≥ 3 × TRL packed, ≥ 4 × padded, and at least half of the
matrix rate.
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
BATCH_TOKENS = 16384
ROWS = {
    "one": "1 ZeRO-3 worker × 2 threads",
    "two": "2 ZeRO-3 workers × 1 thread",
    "bare": "bare loop × 2 threads",
    "trl-bfd": "TRL, packed (bfd)",
    "trl-wrapped": "TRL, packed (wrapped)",
    "trl-padded": "TRL, padded",
}
BARS = {"bare": 0.97, "trl-bfd": 3.0, "trl-wrapped": 3.0, "trl-padded": 4.0}
"""What one worker has to be, as a multiple."""
ZERO3_BAR, LIMIT_BAR = 0.8, 0.5
"""Two workers against the bare loop, and one against the limit."""


def config(output: str, steps: int, workers: int = 2) -> Config:
    """The quickstart with a larger global batch."""
    overrides = [f"output={output}", f"train.global_batch_tokens={BATCH_TOKENS}", f"train.max_steps={steps}"]
    overrides += [f"train.workers={workers}", f"train.threads_per_worker={2 // workers}"]
    return load_config(ROOT / "jobs/configs/quickstart.yaml", [*overrides, "train.checkpoint_every=1000000"])


def ours(output: str, steps: int, workers: int) -> list[float]:
    """Tokens/s of each step but the first, by Ray Train with ZeRO-3 workers."""
    from crlft_ray.tracking import read_records
    from crlft_ray.training.tracked import tracking_folder
    from crlft_ray.training.train import train

    run = config(output, steps, workers)
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


def limit(output: str, steps: int) -> list[float]:
    """Tokens/s if the matrix units did nothing but the model's products, at the rate that they reach on its shapes."""
    import torch

    from crlft_ray.device import with_precision
    from crlft_ray.model.load import model_config
    from crlft_ray.shards.prepare import model_path

    torch.set_num_threads(2)
    run = with_precision(config(output, steps))
    shape = model_config(model_path(run), run.data.context)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[run.train.precision]
    tokens, hidden, inner = run.data.pack_tokens, shape.hidden_size, shape.intermediate_size
    kv = hidden // shape.num_attention_heads * shape.num_key_value_heads
    layer = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden), *[(hidden, inner)] * 2, (inner, hidden)]
    products = [*layer * shape.num_hidden_layers, (hidden, shape.vocab_size)]
    flop, seconds = 0.0, 0.0
    for inputs, outputs in set(products):
        x, w = torch.randn(tokens, inputs, dtype=dtype), torch.randn(inputs, outputs, dtype=dtype)
        x @ w
        began = time.perf_counter()
        for _ in range(5):
            x @ w
        count = products.count((inputs, outputs))
        seconds += (time.perf_counter() - began) / 5 * count
        flop += 2.0 * tokens * inputs * outputs * count
    # Forward and backward are three times the forward. Attention's products are left out: the limit is a little high.
    print(f"matrix units: {flop / seconds / 1e9:.0f} GFLOP/s on the model's shapes", file=sys.stderr)
    return [tokens / (3 * seconds)]


def main() -> None:
    """Prepares once, then takes the rows in turn, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--only", help="used by the benchmark itself")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    if arguments.only:
        workers = {"one": 1, "two": 2}.get(arguments.only)
        if workers:
            found = ours(arguments.output, arguments.steps, workers)
        else:
            found = {"bare": bare, "limit": limit}[arguments.only](arguments.output, arguments.steps)
        print(json.dumps(found))
        return
    speeds: dict[str, list[float]] = {name: [] for name in (*arguments.rows.split(","), "limit")}
    with tempfile.TemporaryDirectory() as scratch:
        _prepare(scratch, arguments.steps)
        for number in range(arguments.rounds):
            for name in speeds:
                speeds[name] += _measure(name, f"{scratch}/{number}-{name}", scratch, arguments.steps)
    _report(speeds)
    print(json.dumps(speeds))


def _prepare(scratch: str, steps: int) -> None:
    """Shards, and the first packs' conversations for TRL."""
    code = f"""
import json
from pathlib import Path
import numpy as np
from crlft_ray.shards.prepare import prepare, shards_folder
from crlft_ray.shards.shard import pack_of
from crlft_ray.shards.stream import PackReader
from tests.benchmarks.train import config
run = config({scratch!r}, {steps})
manifest = prepare(run).manifest
reader = PackReader(shards_folder(run), manifest)
packs = [pack_of(reader(number)) for number in range(min(40, manifest.packs))]
rows = [row.tolist() for pack in packs for row in np.split(pack.input_ids_T, np.cumsum(pack.lengths_C)[:-1])]
Path({scratch!r}, "rows.json").write_text(json.dumps(rows))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=600)


def _measure(name: str, output: str, scratch: str, steps: int) -> list[float]:
    Path(output).mkdir()
    (Path(output) / "shards").symlink_to(f"{scratch}/shards")
    command = [sys.executable, __file__, "--only", name, "--output", output, "--steps", str(steps)]
    if name.startswith("trl-"):
        command = _trl_command(name.removeprefix("trl-"), output, scratch, steps)
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=1800, stdout=subprocess.PIPE, text=True)
    return list(map(float, json.loads(done.stdout.splitlines()[-1])))


def _trl_command(kind: str, output: str, scratch: str, steps: int) -> list[str]:
    sys.path.insert(0, str(ROOT))
    from crlft_ray.device import with_precision
    from crlft_ray.shards.prepare import model_path
    from tests.benchmarks._peers import peer_python

    run = with_precision(config(output, steps))
    script = str(Path(__file__).with_name("_trl.py"))
    figures = [str(steps), str(BATCH_TOKENS), str(run.data.pack_tokens)]
    return [
        str(peer_python()),
        script,
        str(model_path(run)),
        f"{scratch}/rows.json",
        kind,
        run.train.precision,
        *figures,
    ]


def _report(speeds: dict[str, list[float]]) -> None:
    table = Table(title="training, tokens/s per step", title_justify="left")
    for heading in ("", "median", "min", "max", "steps", "of the limit"):
        table.add_column(heading, justify="right")
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in speeds.items():
        figures = [f"{f(found):.0f}" for f in (statistics.median, min, max)]
        of_limit = f"{medians[name] / medians['limit']:.0%}"
        table.add_row(ROWS.get(name, "the matrix units' limit"), *figures, str(len(found)), of_limit)
    console = Console()
    console.print(table)
    if {"two", "bare"} <= medians.keys():
        ratio = medians["two"] / medians["bare"]
        met = "met" if ratio >= ZERO3_BAR else "NOT met"
        console.print(f"two workers / bare loop: {ratio:.2f} (bar ≥ {ZERO3_BAR}: {met})", highlight=False)
    if "one" not in medians:
        return
    for name, bar in BARS.items():
        if name in medians:
            ratio = medians["one"] / medians[name]
            met = "met" if ratio >= bar else "NOT met"
            console.print(f"one worker / {ROWS[name]}: {ratio:.2f} (bar ≥ {bar}: {met})", highlight=False)
    share = medians["one"] / medians["limit"]
    met = "met" if share >= LIMIT_BAR else "NOT met"
    console.print(f"one worker / limit: {share:.2f} (bar ≥ {LIMIT_BAR}: {met})", highlight=False)


if __name__ == "__main__":
    main()
