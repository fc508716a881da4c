"""A cluster that starts nodes for what waits: by Ray's own provider whose nodes are processes of one machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.hosts import REPOSITORY, environment
from tests.tracking.server import free_port

pytestmark = pytest.mark.slow

_HEAD = "f" * 51 + "00000"
"""The name that the provider expects its head to have."""
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_ASK = """
import json
from crlft_ray.errors import UserError
from crlft_ray import capacity
from crlft_ray.capacity import room_for
from crlft_ray.config import validate
from crlft_ray.ray_session import connect
from crlft_ray.training.cluster import check_capacity
from tests.synthetic import raw_config

connect()
capacity._PATIENCE_S = 6.0
found = [room_for({"CPU": 1, "trains": 1})]
for workers in (2, 5):
    train = {"workers": workers, "resources_per_worker": {"CPU": 1, "trains": 1}}
    try:
        check_capacity(validate(raw_config("model", "output", "source", train=train), "test"))
        found.append(room_for({"CPU": 1, "trains": 1}))
    except UserError as error:
        found.append(str(error))
print(json.dumps(found))
"""
_AUTOSCALERS: dict[str, dict[str, str]] = {
    # What `ray up` uses.
    "the old one": {},
    # What KubeRay can use.
    "the new one": {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": _HEAD},
}


def _cluster_config(address: str) -> dict[str, Any]:
    """A head on which nothing runs, and up to two nodes for a worker each, none at first."""
    nothing: dict[str, Any] = {
        "auth": {}, "file_mounts": {}, "file_mounts_sync_continuously": False, "cluster_synced_files": [],
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [], "rsync_exclude": [], "rsync_filter": [],
    }  # fmt: skip
    return nothing | {
        "cluster_name": "test", "max_workers": 2, "idle_timeout_minutes": 1.0, "upscaling_speed": 1.0,
        "provider": {
            "type": "external", "module": _PROVIDER, "head_node_id": _HEAD, "gcs_address": address,
            "launch_multiple": True, "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "train": {"resources": {"CPU": 1, "trains": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
    }  # fmt: skip


@contextmanager
def _autoscaling(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A head that starts nodes; gives the environment of its drivers."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    own = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        config, log = Path(folder, "cluster.yaml"), Path(folder, "log")
        config.write_text(json.dumps(_cluster_config(address)))
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
            "--num-cpus=0", "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats",
            f"--temp-dir={folder}", f"--autoscaling-config={config}",
        ]  # fmt: skip
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment(own | env), cwd=REPOSITORY)
        try:
            deadline = time.monotonic() + 90
            while "Ray runtime started" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield {"RAY_ADDRESS": address}
        finally:
            # The nodes are children of the head's autoscaler, and would outlive it.
            head = psutil.Process(process.pid)
            for each in [*head.children(recursive=True), head]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait(60)


@pytest.mark.parametrize("autoscaler", [pytest.param("the old one", marks=pytest.mark.long), "the new one"])
def test_nodes_are_started_for_a_training(autoscaler: str) -> None:
    """As many as it needs, if there can be so many."""
    with _autoscaling(_AUTOSCALERS[autoscaler]) as drivers:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False, timeout=180,
            env=environment(drivers), cwd=REPOSITORY,
        )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    before, for_two, for_five = json.loads(asked.stdout.splitlines()[-1])
    assert (before, for_two) == (0, 2)
    assert "5 workers of 1 CPU, 1 trains each do not fit into this cluster, which has room for 2" in for_five
