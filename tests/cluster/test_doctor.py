"""`crlft doctor` on hosts on which all is well: every check of every one is green."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import MISSING
from tests.tracking.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

EVERYWHERE = {
    "versions", "imports", "compiler", "GPUs", "clock", "disk", "ports", "all-reduce gloo", "paths", "output", "MLflow",
}  # fmt: skip


def test_all_is_well(cluster: Cluster, tmp_path: Path) -> None:
    here = cluster.head.here
    server = Server(tmp_path, environment={"MLFLOW_SERVER_ALLOWED_HOSTS": f"{here}:*"}, address=here)
    try:
        server.start()
        config, output = cluster.new_run("doctor", tracking={"uri": server.uri})
        output.mkdir(parents=True)
        command = ("-c", "from crlft_ray.cli import main; main()", "doctor", config)
        result = cluster.head.run(*command, "--address", f"{cluster.head.address}:6379", "--json")
    finally:
        server.kill()
    assert result.stdout, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert [finding for finding in found["findings"] if not finding["ok"]] == []
    assert (result.returncode, found["ok"]) == (0, True)
    assert set(found["nodes"]) == {host.address for host in (cluster.head, *cluster.workers)}
    checked = {(finding["check"], finding["node"]) for finding in found["findings"]}
    assert checked == {(check, node) for check in EVERYWHERE for node in found["nodes"]} | {("MLflow", "driver")}
    speeds = [finding["text"] for finding in found["findings"] if finding["check"] == "all-reduce gloo"]
    assert all(float(text.split(" GB/s over cable")[0]) > 0 for text in speeds), speeds
    assert list(output.iterdir()) == [], "something was left there"
