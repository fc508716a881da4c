"""Real MLflow for the tests: a database in a folder, or a server in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient

from crlft_ray.tracking import Dataset, RunSpec

SPEC = RunSpec(
    experiment="tests",
    name="a run",
    params={"model": "tiny", "train": {"lr": 1e-4, "max_steps": None, "betas": [0.9, 0.95]}},
    dataset=Dataset("shards", "f" * 64, "shards", {"counts": {"expert": 3, "mixed": 4}, "fill": 0.997}),
)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`mlflow server` on a folder; it can be killed, stopped for a while and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            # A group of its own, because the server is a family of processes that dies or stops as one.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """Kills it as a power cut would."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)


def points(uri: str, run_id: str, name: str) -> dict[int, float]:
    """Step → value of a metric in MLflow; a step that is there twice fails the test."""
    history = MlflowClient(uri).get_metric_history(run_id, name)
    twice = [step for step, count in Counter(metric.step for metric in history).items() if count > 1]
    assert not twice, f"{name} has more than one value at {twice}"
    return {metric.step: metric.value for metric in history}


def until(condition: object, timeout_s: float = 60.0) -> None:
    """Waits until a callable gives true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
