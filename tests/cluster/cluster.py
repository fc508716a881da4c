"""A cluster of three hosts, and people who submit jobs to it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.hosts import REPOSITORY, Host, environment, hosts
from tests.cluster.nodes import ray_node
from tests.runs import run_config, write_config, write_learnable

TIMEOUT_S = 420


@dataclass(frozen=True)
class Cluster:
    """A head, on which jobs' drivers run, and two hosts with a worker each."""

    head: Host
    workers: tuple[Host, Host]
    shared: Path
    """The only folder that all hosts see, but for the code and its Python."""

    def submit(
        self, name: str, *job: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Submits a job as jobs/README.md says, and follows it to its end; stdout has what was shown."""
        return subprocess.run(
            _submission(name, *job), text=True, check=False, timeout=TIMEOUT_S, env=self.environment(env),
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @contextmanager
    def submitting(self, name: str, *job: str | Path) -> Iterator[Submission]:
        """As `submit`, but gives it while it runs."""
        log = self.shared / f"{name}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                _submission(name, *job), stdout=file, stderr=subprocess.STDOUT, env=self.environment(), cwd=REPOSITORY
            )
            try:
                yield Submission(process, log)
            finally:
                process.kill()
                process.wait()

    def ask(self, *command: str) -> str:
        """What a command of `ray` says."""
        result = subprocess.run(
            ["ray", *command], text=True, check=True, timeout=120, env=self.environment(), cwd=REPOSITORY,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return result.stdout

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of somebody who submits jobs."""
        return environment({"RAY_API_SERVER_ADDRESS": f"http://{self.head.address}:8265", **(more or {})})

    def new_run(self, name: str, source: Path | None = None, **sections: Any) -> tuple[Path, Path]:
        """A config file of a training with one worker on each host, and the output folder that it names."""
        if source is None:
            source = self.shared / "conversations.jsonl"
            if not source.exists():
                write_learnable(source)
        # fp32, because some CPUs take very long for bf16.
        train = {"precision": "fp32", "resources_per_worker": {"CPU": 1, "trains": 1}, **sections.pop("train", {})}
        output = self.shared / "runs" / name
        raw = run_config(self.shared / "model", output, source, train=train, **sections)
        return write_config(self.shared / f"{name}.yaml", raw), output


@dataclass(frozen=True)
class Submission:
    """A job that somebody follows."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()


def _submission(name: str, *job: str | Path) -> list[str]:
    options = ["--submission-id", name, "--runtime-env", "jobs/runtime_env.yaml"]
    return ["ray", "job", "submit", *options, "--", "python", *map(str, job)]


@contextmanager
def shared_hosts(model: Path) -> Iterator[tuple[Host, Host, Host, Path]]:
    """Three hosts and a folder that they share, with a copy of the model."""
    # Not below /tmp, of which each host has its own.
    with tempfile.TemporaryDirectory(prefix="crlft-hosts-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shared = folder / "shared"
        shared.mkdir()
        shutil.copytree(model, shared / "model")
        with hosts(3, folder) as (head, one, two):
            yield head, one, two, shared


@contextmanager
def three_hosts(model: Path, env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster of them; `env` is its nodes' environment."""
    # Each host stages models of its own.
    env = {"CRLFT_CACHE": "/tmp/crlft-cache", **(env or {})}
    with shared_hosts(model) as (head, one, two, shared), ExitStack() as nodes:
        nodes.enter_context(ray_node(head, head, env=env, cpus=2, jobs=True))
        for host in (one, two):
            nodes.enter_context(ray_node(host, head, env=env, cpus=2, resources={"trains": 1}, again=True))
        yield Cluster(head, (one, two), shared)
