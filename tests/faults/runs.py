"""Runs `crlft train` as a process of its own, the way a person or a job does, with a fault in it or without."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.tracking.server import points

INJECT = Path(__file__).parent / "inject"
TIMEOUT_S = 240


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    said: str
    seconds: float


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", "from crlft_ray.cli import main; main()", "train", str(config), *arguments]


@contextmanager
def started(config: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A training in a session of its own; what is left of it is killed at the end."""
    log = config.with_name(f"{config.stem}.{time.monotonic_ns()}.log")
    with log.open("w") as file:
        process = subprocess.Popen(
            command(config, *arguments), stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        process.log = log  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                assert process.poll() is not None
            process.wait()


def train(
    config: Path, *arguments: str, fault: dict[str, Any] | None = None, env: dict[str, str] | None = None
) -> Ended:
    """Trains to the end, whatever that is."""
    began = time.monotonic()
    extra = dict(env or {})
    if fault:
        driver, once = config.with_name("driver.pid"), config.with_name("struck")
        fault = {"rank": 0, "call": 1, **fault, "driver": str(driver), "once": str(once)}
        paths = os.pathsep.join(filter(None, [str(INJECT), os.environ.get("PYTHONPATH")]))
        extra |= {"PYTHONPATH": paths, "CRLFT_FAULT": json.dumps(fault)}
    with started(config, *arguments, env=extra) as process:
        if fault:
            driver.write_text(str(process.pid))
        process.wait(TIMEOUT_S)
        if fault:
            assert once.exists(), f"the fault did not happen: {process.log.read_text()}"  # type: ignore[attr-defined]
    said = process.log.read_text()  # type: ignore[attr-defined]
    return Ended(process.returncode, said, time.monotonic() - began)


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def steps_seen(output: Path) -> int:
    """The newest step that is spooled."""
    spool = output / "tracking" / "metrics.jsonl"
    if not spool.exists():
        return 0
    lines = [json.loads(line) for line in spool.read_text().splitlines() if line.endswith("}")]
    return max((line["step"] for line in lines if "train/loss" in line.get("metrics", {})), default=0)


def weights(output: Path) -> str:
    """SHA-256 of the exported weights."""
    return hashlib.sha256((output / "export" / "model.safetensors").read_bytes()).hexdigest()


def curve(output: Path, name: str = "train/loss") -> dict[int, float]:
    """One metric's points from MLflow; each step once, in one run."""
    uri = f"sqlite:///{output / 'mlflow.db'}"
    (run,) = all_runs(uri)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    assert len({point.step for point in history}) == len(history), "a step is there twice"
    return points(uri, run.info.run_id, name)


def all_runs(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("crlft")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))
