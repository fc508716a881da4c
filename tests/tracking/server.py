"""Real MLflow for the tests: a database in a folder, or a server in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient

from crlft_ray.tracking import Dataset, RunSpec

Fault = Literal["lost answer", "late arrival"]

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
    """`mlflow server` on a folder; it can be killed, stopped for a while and started again on the same port.

    Its database is SQLite in the folder or `database`; `options` and `environment` are added to the command's.
    """

    def __init__(
        self,
        folder: Path,
        database: str | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self._database = database or f"sqlite:///{folder / 'server.db'}"
        self._options = options
        self._environment = {**os.environ, **(environment or {})}
        self.port = free_port()
        self._address = address
        self.uri = f"http://{address}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", self._address, "--port", str(self.port)]
        command += ["--backend-store-uri", self._database, "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), *self._options]
        with (self.folder / "server.log").open("ab") as log:
            # A group of its own, because the server is a family of processes that dies or stops as one.
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + 240
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


class Line:
    """A network line to a server, on which the first request to log metrics has an end that its sender cannot know.

    Lost answer: the server has it, the sender sees a broken connection. Late arrival: the same for the sender, but
    the server gets the request only with `deliver_late`.
    """

    def __init__(self, target: str, fault: Fault) -> None:
        self.faults = 0
        self._late: list[urllib.request.Request] = []
        line = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
                request = urllib.request.Request(target + self.path, body or None, headers, method=self.command)
                hit = self.path.endswith("/runs/log-batch") and not line.faults
                if hit and fault == "late arrival":
                    line._late.append(request)
                else:
                    status, answer = _answer(request)
                line.faults += hit
                if hit:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def deliver_late(self) -> None:
        """The request that was under way all the time reaches the server."""
        for request in self._late:
            assert _answer(request)[0] == 200

    def __enter__(self) -> Line:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


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
