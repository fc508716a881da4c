"""Clusters that cannot be joined: one message each, at once."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cluster.hosts import MISSING, REPOSITORY, environment, hosts
from tests.cluster.nodes import ray_node
from tests.tracking.server import free_port

CRLFT = ("-c", "from crlft_ray.cli import main; main()")
# Ray tells its version to the cluster when its head starts.
OTHER_RAY = "import ray; ray.__version__ = '2.55.0'; from ray.scripts.scripts import main; main()"


def _refusal(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("crlft: ") == 1
    return result.stderr[result.stderr.index("crlft: ") :]


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("127.0.0.1:{port}", "nobody answers there (Connection refused); start the cluster"),
        ("10.0.0.1", "Ray's address is host:port, such as 10.0.0.1:6379, not '10.0.0.1'"),
        ("no-such-host.invalid:6379", "nobody answers there"),
    ],
)
def test_nobody_answers(address: str, part: str) -> None:
    began = time.monotonic()
    command = [sys.executable, *CRLFT, "doctor", "--address", address.format(port=free_port())]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment(), cwd=REPOSITORY
    )
    assert part in _refusal(result)
    assert time.monotonic() - began < 60


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_another_ray() -> None:
    with hosts(1) as (host,), ray_node(host, host, python=[sys.executable, "-c", OTHER_RAY]) as address:
        result = host.run(*CRLFT, "doctor", "--address", address)
    message = _refusal(result)
    assert f"Ray at {address}: the cluster has Ray 2.55.0, Python 3." in message
    assert "they must be the same everywhere" in message
