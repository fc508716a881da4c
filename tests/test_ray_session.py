"""The local cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTENERS = """
import time
import psutil
from crlft_ray import tune, train, evaluate, prepare
from crlft_ray.ray_session import connect

connect(cpus=1)
import ray

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


@pytest.mark.slow
def test_it_listens_on_loopback_only() -> None:
    """Whoever can reach Ray's ports can run code."""
    command = [sys.executable, "-c", LISTENERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    addresses = done.stdout.split()
    assert len(addresses) >= 4
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
