"""A head that dies and comes back, with its state in a Redis as cluster/kuberay has it: the job, submitted again, goes
on where it was."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, shared_hosts
from tests.cluster.hosts import MISSING
from tests.cluster.longer import ends_as, repeated
from tests.cluster.nodes import ray_node
from tests.faults import runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed: no redis-server on PATH"),
]

_PORT = 6390


@contextmanager
def redis(folder: Path, address: str) -> Iterator[dict[str, Any]]:
    """A Redis that asks for a password; gives what `ray_node` needs for a head that uses it."""
    password = secrets.token_hex(16)
    command = ["redis-server", "--bind", address, "--port", str(_PORT), "--requirepass", password, "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        _wait_for_port(process, address)
        env = {"RAY_REDIS_ADDRESS": f"{address}:{_PORT}", "RAY_external_storage_namespace": "crlft"}
        yield {"env": env, "redis_password": password}
    finally:
        process.kill()
        process.wait()


def test_a_head_that_is_killed(undisturbed: Path, tiny_model: Path, tmp_path: Path) -> None:
    with (
        shared_hosts(tiny_model) as (head, one, two, shared),
        redis(tmp_path, head.here) as state,
        ExitStack() as nodes,
    ):
        cluster = Cluster(head, (one, two), shared)
        first = nodes.enter_context(ExitStack())
        first.enter_context(ray_node(head, head, cpus=2, jobs=True, apart=True, **state))
        for host in (one, two):
            nodes.enter_context(ray_node(host, head, cpus=2, resources={"trains": 1}, again=True, apart=True))
        config, output = repeated(cluster, "head", undisturbed)
        with cluster.submitting("train", "jobs/train.py", config):
            runs.wait_for(lambda: runs.steps_seen(output) >= 15, 180)
            head.power_off()
        nodes_before = {one.address, two.address}
        time.sleep(5)
        nodes.enter_context(ray_node(head, head, cpus=2, jobs=True, apart=True, **state))
        runs.wait_for(lambda: nodes_before <= _nodes(cluster), 120)
        # What the head knew before, it knows again.
        assert "'train'" in cluster.ask("job", "list")
        job = cluster.submit("train-again", "jobs/train.py", config)
        assert job.returncode == 0, job.stdout
        assert "going on from step" in job.stdout
        ends_as(output, undisturbed)


def _nodes(cluster: Cluster) -> set[str]:
    """Addresses of the nodes that are alive."""
    listed = cluster.ask("list", "nodes", "--address", f"http://{cluster.head.address}:8265", "--filter", "state=ALIVE")
    return {word for word in listed.split() if word.startswith("10.213.")}


def _wait_for_port(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "Redis did not start"
        with socket.socket() as probe:
            if probe.connect_ex((address, _PORT)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("Redis does not answer")
