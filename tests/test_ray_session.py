"""The local cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LISTENERS = """
import os
import time
import psutil
from crlft_ray import tune, train, evaluate, prepare
from crlft_ray.ray_session import connect

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
connect()
import ray

print(ray.cluster_resources()["CPU"])
ray.get(ray.remote(num_cpus=0)(lambda: time.sleep(1)).remote())
session = ray._private.worker._global_node.get_session_dir_path()
mine = {process.pid for process in psutil.Process().children(recursive=True)}
for process in psutil.process_iter(["cmdline"]):
    if session in " ".join(process.info["cmdline"] or []):
        mine.add(process.pid)
for connection in psutil.net_connections("tcp"):
    if connection.status == psutil.CONN_LISTEN and connection.pid in mine:
        print(connection.laddr.ip)
"""

PROCESSES = """
import time
import psutil
from crlft_ray.ray_session import connect

connect(cpus=1)
import ray

pid = ray.get(ray.remote(lambda: __import__("os").getpid()).remote())
print(psutil.Process(pid).cmdline()[0])
end = time.monotonic() + 30
while psutil.pid_exists(pid) and time.monotonic() < end:
    time.sleep(0.2)
print(psutil.pid_exists(pid))
"""


@pytest.mark.slow
def test_it_listens_on_loopback_only_and_counts_the_cores_it_may_use() -> None:
    """Whoever can reach Ray's ports can run code."""
    command = [sys.executable, "-c", LISTENERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    cpus, *addresses = done.stdout.split()
    assert float(cpus) == 1 + 2
    assert len(addresses) >= 4
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


@pytest.mark.slow
def test_processes_that_have_nothing_to_do_end() -> None:
    """Ray would keep as many as there are CPUs, and each takes from those that train."""
    command = [sys.executable, "-c", PROCESSES]
    sooner = os.environ | {"RAY_idle_worker_killing_time_threshold_ms": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=sooner)
    name, there = done.stdout.split()
    assert name.startswith("ray::")
    assert there == "False"
