"""From JSONL to shards: tokens/s on one core and on two, memory for more and more input, and OpenChat's own step.

    python tests/benchmarks/prepare.py [--runs 3] [--grow 10,100] [--rows 2,1,openchat]

All rated chitchat conversations, with SmolLM2's tokenizer and OpenChat's template; each run is a process of its own,
bound to its cores, with a Ray cluster of its own, timed after that has started. OpenChat's `generate_dataset`
tokenises the same conversations in an environment of its own; it neither cleans, nor drops duplicates, nor packs.
Larger inputs repeat the conversations, each time with another first word; the smallest of them goes through both.
Memory is the most that all processes together hold (proportional set size) beyond what they held before; it is
measured in runs of their own, as looking at every page takes a third of a core.
Bars: ≥ 1.5 × OpenChat on two cores; two cores ≥ 1.6 × one; 99.5 % filled; the largest input needs no more than twice
the memory of the smallest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks._report import Bar, medians, report  # noqa: E402

OPENCHAT_BAR, CORES_BAR, FILL_BAR, MEMORY_BAR = 1.5, 1.6, 0.995, 2.0
CORES = {"2": 2, "1": 1, "openchat": 2}
NAMES = {"2": "ours, 2 cores", "1": "ours, 1 core", "openchat": "OpenChat, 2 cores"}


def main() -> None:
    """Runs every row in turn, then the larger inputs once each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--grow", default="10,100")
    parser.add_argument("--rows", default=",".join(CORES))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_ours(Path(arguments.folder), memory=arguments.memory)))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.rows.split(",")}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.runs):
            for name in runs:
                runs[name].append(_measure(name, Path(scratch) / f"{number}-{name}", 1))
            _report(runs, {}, {})
        larger: dict[str, dict[str, float]] = {}
        memory: dict[int, float] = {}
        for times in sorted(map(int, filter(None, arguments.grow.split(",")))):
            for name in ("2", *(["openchat"] if "openchat" in runs and not larger else [])):
                larger[f"{times} × the input, {NAMES[name]}"] = _measure(name, Path(scratch) / f"{name}-{times}", times)
            for size in {1, times} - memory.keys():
                memory[size] = _measure("2", Path(scratch) / f"memory-{size}", size, "--memory")["gb"]
            _report(runs, larger, memory)


def _report(
    runs: dict[str, list[dict[str, float]]], larger: dict[str, dict[str, float]], memory: dict[int, float]
) -> None:
    speeds = {NAMES[name]: [run["tokens"] / run["seconds"] for run in found] for name, found in runs.items()}
    median = medians(speeds)
    bars = []
    for peer, bar in (("openchat", OPENCHAT_BAR), ("1", CORES_BAR)):
        if "2" in runs and peer in runs:
            bars.append(Bar(f"{NAMES['2']} / {NAMES[peer]}", median[NAMES["2"]] / median[NAMES[peer]], bar))
    ours = [run for name in ("2", "1") for run in runs.get(name, [])]
    if ours:
        bars.append(Bar("fill", min(run["fill"] for run in ours), FILL_BAR))
    for size, gb in memory.items():
        print(f"{size} × the input: {gb:.2f} GB")
        if size > 1:
            bars.append(Bar(f"memory of {size} × the input / of 1 ×", gb / memory[1], MEMORY_BAR, at_least=False))
    rates = {name: run["tokens"] / run["seconds"] for name, run in larger.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} tokens/s")
    for name, rate in rates.items():
        input_size, _, who = name.partition(", ")
        if who == NAMES["openchat"]:
            ours_rate = rates[f"{input_size}, {NAMES['2']}"]
            bars.append(Bar(f"{input_size}: ours / OpenChat", ours_rate / rate, OPENCHAT_BAR))
    more = {"runs": runs, "larger": larger, "gb": memory}
    report("prepare", "from conversations to shards", "tokens/s", speeds, bars, more)


def _measure(name: str, folder: Path, times: int, *flags: str) -> dict[str, float]:
    from crlft_ray.config import load_config
    from crlft_ray.shards.prepare import chat_tokenizer
    from tests.benchmarks._peers import peer_python

    folder.mkdir()
    command = ["taskset", "-c", ",".join(map(str, range(CORES[name])))]
    if name == "openchat":
        _write_openchat(folder / "in.0.jsonl", times)
        config = load_config(ROOT / "jobs/configs/quickstart.yaml", ["template=openchat"])
        chat_tokenizer(config).save(folder / "tokenizer")
        command += [str(peer_python()), str(Path(__file__).with_name("_openchat.py")), str(folder)]
    else:
        _write_ours(folder / "in.jsonl", times)
        command += [sys.executable, __file__, "--only", name, "--folder", str(folder), *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=3600)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _conversations() -> Iterator[dict[str, Any]]:
    from crlft_ray.assets import fetch

    with (fetch(["chitchat"])["chitchat"] / "conversations.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _repeated(times: int) -> Iterator[dict[str, Any]]:
    for number in range(times):
        for row in _conversations():
            row["messages"][0]["content"] = f"{number} {row['messages'][0]['content']}"
            yield row


def _write_ours(path: Path, times: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _repeated(times))


def _write_openchat(path: Path, times: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in _repeated(times):
            items = [
                {"role": m["role"], "content": m["content"], "weight": float(m["role"] == "assistant")}
                for m in row["messages"]
            ]
            condition = "GPT4" if row["interesting"] >= 8 else "GPT3"
            file.write(json.dumps({"items": items, "condition": condition}, ensure_ascii=False) + "\n")


def _ours(folder: Path, *, memory: bool) -> dict[str, float]:
    """One `prepare` into an empty folder, on the cores that this process is bound to."""
    from crlft_ray.config import load_config
    from crlft_ray.ray_session import connect
    from crlft_ray.shards.prepare import prepare

    if memory:
        connect()
    overrides = [f"output={folder}/run", "template=openchat", "data.pack_tokens=4096", "data.context=4096"]
    overrides.append(f"data.sources.0.path={folder}/in.jsonl")
    with _most_memory() if memory else nullcontext([0.0]) as most:
        prepared = prepare(load_config(ROOT / "jobs/configs/quickstart.yaml", overrides))
    manifest = prepared.manifest
    return {"seconds": prepared.seconds, "tokens": manifest.tokens, "fill": manifest.fill, "gb": most[0]}


@contextmanager
def _most_memory() -> Iterator[list[float]]:
    """The most GB that this process and all below it have held beyond what they held at first."""
    most, done, first = [0.0], threading.Event(), _memory_gb()

    def watch() -> None:
        while not done.wait(0.25):
            most[0] = max(most[0], _memory_gb() - first)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def _memory_gb() -> float:
    import psutil

    total = 0
    me = psutil.Process(os.getpid())
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # It has ended since it was listed.
            continue
    return total / 1e9


if __name__ == "__main__":
    main()
