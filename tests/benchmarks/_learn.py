"""What the benchmarks of training share: the data, and one optimizer step after another, with and without frameworks.

Every function runs in a process of its own and gives the seconds of each step but the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from crlft_ray.config import Config, load_config

ROOT = Path(__file__).parents[2]
Data = Literal["chitchat", "short"]
BATCH_TOKENS, PACK_TOKENS = 16384, 2048


def config(
    output: str,
    steps: int,
    *,
    workers: int = 2,
    data: Data = "chitchat",
    batch_tokens: int = BATCH_TOKENS,
    pack_tokens: int = PACK_TOKENS,
    checkpointing: bool = False,
) -> Config:
    """The quickstart's training with other sizes, on two cores; its shards are those of `prepared`."""
    overrides = {
        "output": output,
        "data.pack_tokens": pack_tokens,
        "train.global_batch_tokens": batch_tokens,
        "train.max_steps": steps,
        "train.workers": workers,
        "train.threads_per_worker": max(1, 2 // workers),
        "train.gradient_checkpointing": checkpointing,
        "train.checkpoint_every": 1_000_000,
    }
    if data == "short":
        source = {"path": str(Path(output).parent / "short.jsonl"), "format": "messages", "class": "expert"}
        overrides["data.sources"] = [source]
    return load_config(
        ROOT / "jobs/configs/quickstart.yaml", [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    )


def prepared(scratch: str, steps: int, data: Data = "chitchat", pack_tokens: int = PACK_TOKENS) -> None:
    """Makes `scratch`/first/shards, and rows.json: the ids of the first steps' conversations, for peers.

    In a process of its own, so that no Ray runs beside what is measured.
    """
    code = "import sys; from tests.benchmarks._learn import _prepare; _prepare(*sys.argv[1:])"
    command = [sys.executable, "-c", code, scratch, str(steps), data, str(pack_tokens)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)


def new_output(scratch: str, name: str) -> Path:
    """An output folder in `scratch` that has the shards already."""
    output = Path(scratch, name)
    output.mkdir()
    (output / "shards").symlink_to(Path(scratch, "first", "shards"))
    return output


def _write_short(folder: Path) -> None:
    """short.jsonl: each exchange of the chitchat conversations as a conversation of its own, about 40 tokens."""
    from crlft_ray.assets import fetch

    conversations = fetch(["chitchat"])["chitchat"] / "conversations.jsonl"
    lines = []
    for line in conversations.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        pairs = zip(messages[::2], messages[1::2], strict=False)
        lines += [json.dumps({"messages": list(pair)}, ensure_ascii=False) for pair in pairs]
    (folder / "short.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def whole(run: Config) -> list[float]:
    """By Ray Train with ZeRO-3 workers, as `crlft train` does."""
    from crlft_ray.training.train import train

    train(run)
    return [metrics["train/step_s"] for metrics in step_records(run)][1:]


def step_records(run: Config) -> list[dict[str, float]]:
    """What rank 0 reported of each step, with `time_s`, when that was."""
    from crlft_ray.tracking import read_records
    from crlft_ray.training.tracked import tracking_folder

    records = read_records(tracking_folder(run) / "metrics.jsonl")
    return [{**r.metrics, "time_s": r.time_ms / 1e3} for r in records if "train/step_s" in r.metrics]


def engine(run: Config) -> list[float]:
    """By one rank's ZeRO-3 engine and our step in this process: no Ray, no tracking, no stream."""
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    from crlft_ray.device import prepare_process, with_precision

    run = with_precision(run)
    prepare_process(run)
    import torch.distributed as dist

    from crlft_ray.shards.manifest import read_tokenizer
    from crlft_ray.shards.prepare import model_path, shards_folder
    from crlft_ray.training.engine import build_engine
    from crlft_ray.training.step import Stepper
    from crlft_ray.training.watch import Watch

    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    built = build_engine(run, str(model_path(run)), read_tokenizer(shards_folder(run)))
    watch = Watch(store, 0, 1, run.train.collective_timeout)
    stepper = Stepper(built, run.class_weights(), per_sequence=False, watch=watch)
    seconds = []
    for packs in _packs_of_steps(run):
        began = time.perf_counter()
        stepper.step(packs, len(packs), 1e-5)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def bare(run: Config, *, rounded: bool = False) -> list[float]:
    """By a plain loop over the same packs with the same model, attention, loss and optimizer; no framework.

    Weights and sums of gradients are kept in fp32 beside the model's bf16, as ZeRO-3 does; `rounded`: in bf16 alone.
    """
    import torch

    from crlft_ray.device import with_precision
    from crlft_ray.model.batch import micro_batch
    from crlft_ray.model.load import add_tokens, load_model
    from crlft_ray.model.packed import PackedModel
    from crlft_ray.shards.prepare import chat_tokenizer, model_path

    torch.set_num_threads(run.train.threads_per_worker)
    run = with_precision(run)
    model = load_model(model_path(run), run.train.precision)
    add_tokens(model, chat_tokenizer(run))
    packed = PackedModel(model).train()
    parameters: list[torch.Tensor] = list(packed.parameters())
    beside = not rounded and run.train.precision != "fp32"
    kept = [parameter.detach().float().requires_grad_() for parameter in parameters] if beside else parameters
    optimizer = torch.optim.AdamW(kept, lr=1e-5, fused=True)
    weights = torch.tensor(run.class_weights())
    seconds = []
    for packs in _packs_of_steps(run):
        began = time.perf_counter()
        batches = [micro_batch(pack) for pack in packs]
        total = sum(float(batch.weights_L(weights).sum()) for batch in batches)
        for batch in batches:
            ((packed(batch) * batch.weights_L(weights)).sum() / total).backward()
            if beside:
                _add_gradients(parameters, kept)
        torch.nn.utils.clip_grad_norm_(kept, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if beside:
            with torch.no_grad():
                for parameter, exact in zip(parameters, kept, strict=True):
                    parameter.copy_(exact)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def _add_gradients(parameters: Sequence[Any], kept: Sequence[Any]) -> None:
    """Moves them from the model to the fp32 weights."""
    for parameter, exact in zip(parameters, kept, strict=True):
        gradient, parameter.grad = parameter.grad, None
        exact.grad = gradient.float() if exact.grad is None else exact.grad.add_(gradient)


def limit(run: Config) -> list[float]:
    """If the matrix units did nothing but the model's products, at the rate that they reach on its very shapes.

    The products of the weights forward and backward, which are three times the forward, of every slot of a step, and
    attention's within the conversations of the first pack; the output layer only where there is something to learn.
    """
    import torch

    from crlft_ray.device import with_precision
    from crlft_ray.model.batch import micro_batch
    from crlft_ray.model.shape import model_config
    from crlft_ray.shards.prepare import model_path

    torch.set_num_threads(run.train.threads_per_worker)
    run = with_precision(run)
    shape = model_config(model_path(run), run.data.context)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[run.train.precision]
    hidden, inner = shape.hidden_size, shape.intermediate_size
    kv = hidden // shape.num_attention_heads * shape.num_key_value_heads
    layer = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden), *[(hidden, inner)] * 2, (inner, hidden)]
    layers = shape.num_hidden_layers
    found = []
    for packs in _packs_of_steps(run):
        batches = [micro_batch(pack) for pack in packs]
        flop = sum(
            6.0 * len(batch.input_ids_T) * sum(i * o for i, o in layer) * layers
            + 6.0 * len(batch.targets_L) * hidden * shape.vocab_size
            # Attention is causal, half of the square: two products forward, four backward.
            + 6.0 * float((batch.cu_seq_lens.diff().double() ** 2).sum()) * hidden * layers
            for batch in batches
        )
        found.append(flop)
    rate = _matrix_rate(run.data.pack_tokens, [*layer * layers, (hidden, shape.vocab_size)], dtype)
    print(f"matrix units: {rate / 1e9:.0f} GFLOP/s on the model's shapes", file=sys.stderr)
    return [flop / rate for flop in found][1:]


def _matrix_rate(tokens: int, products: Sequence[tuple[int, int]], dtype: Any) -> float:
    """FLOP/s over the products, each as often as the model has it."""
    import torch

    flop, seconds = 0.0, 0.0
    for inputs, outputs in set(products):
        x, w = torch.randn(tokens, inputs, dtype=dtype), torch.randn(inputs, outputs, dtype=dtype)
        # Into memory that is there: a model's products do not wait for the kernel to map their results.
        result = x @ w
        began = time.perf_counter()
        for _ in range(5):
            torch.mm(x, w, out=result)
        count = products.count((inputs, outputs))
        seconds += (time.perf_counter() - began) / 5 * count
        flop += 2.0 * tokens * inputs * outputs * count
    return flop / seconds


def _packs_of_steps(run: Config) -> list[list[Any]]:
    """All packs of every step, as one rank gets them."""
    import numpy as np

    from crlft_ray.shards.manifest import read_manifest
    from crlft_ray.shards.prepare import shards_folder
    from crlft_ray.shards.shard import pack_of
    from crlft_ray.shards.stream import PackReader
    from crlft_ray.training.schedule import order_of

    folder = shards_folder(run)
    manifest = read_manifest(folder)
    order, reader = order_of(run, manifest), PackReader(folder, manifest)
    assert run.train.max_steps is not None
    numbers = [
        order.pack_numbers(step, np.arange(order.packs_of_step(step)), 0, 1) for step in range(run.train.max_steps)
    ]
    return [[pack_of(reader(int(number))) for number in of_step] for of_step in numbers]


def tokens_of_steps(run: Config) -> list[int]:
    """Tokens that all ranks together learn from in each step."""
    return [sum(len(pack.input_ids_T) for pack in packs) for packs in _packs_of_steps(run)]


def _prepare(scratch: str, steps: str, data: Data, pack_tokens: str) -> None:
    import numpy as np

    from crlft_ray.shards.prepare import prepare

    Path(scratch).mkdir(exist_ok=True)
    if data == "short":
        _write_short(Path(scratch))
    tokens = int(pack_tokens)
    run = config(f"{scratch}/first", int(steps), data=data, pack_tokens=tokens, batch_tokens=max(tokens, BATCH_TOKENS))
    prepare(run)
    packs = [pack for of_step in _packs_of_steps(run) for pack in of_step]
    rows = [row.tolist() for pack in packs for row in np.split(pack.input_ids_T, np.cumsum(pack.lengths_C)[:-1])]
    Path(scratch, "rows.json").write_text(json.dumps(rows), encoding="utf-8")
