"""A cluster on which all is well: every check is green, on one node and on two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import load_config
from crlft_ray.diagnosis.examine import doctor
from crlft_ray.storage import Place
from tests.cli.helpers import crlft
from tests.cluster.hosts import REPOSITORY, environment
from tests.object_store import ObjectStore
from tests.runs import write_config
from tests.synthetic import raw_config, write_conversations
from tests.tracking.helpers import Server

pytestmark = pytest.mark.slow

EVERYWHERE = {"versions", "imports", "compiler", "GPUs", "clock", "disk"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path, server: Server) -> dict[str, Any]:
    source = tmp_path / "conversations.jsonl"
    write_conversations(source, 5)
    return raw_config(tiny_model, tmp_path / "runs" / "one", source, tracking={"uri": server.uri})


def test_one_node(ray_session: None, config: dict[str, Any], object_store: ObjectStore, tmp_path: Path) -> None:
    """With its output on S3; a single node has nobody to talk to."""
    config["output"] = object_store.uri("doctor/runs/one")
    file = write_config(tmp_path / "config.yaml", config)
    outcome = crlft("doctor", file, "--json")
    found = json.loads(outcome.out.splitlines()[-1])
    assert [finding for finding in found["findings"] if not finding["ok"]] == []
    assert (outcome.code, found["ok"], len(found["nodes"])) == (0, True, 1)
    assert {finding["check"] for finding in found["findings"]} == EVERYWHERE | {"paths", "output", "MLflow"}
    assert not Place.of(object_store.uri("doctor")).exists(), "something was left there"
    shown = crlft("doctor", file)
    assert shown.code == 0, shown.out
    assert "1 node: all is well" in shown.out
    assert "test:test" not in shown.out + outcome.out, "a credential was shown"


def test_without_a_config(ray_session: None) -> None:
    diagnosis = doctor()
    assert {finding.check for finding in diagnosis.findings} == EVERYWHERE
    assert diagnosis.ok, diagnosis


def test_two_nodes(config: dict[str, Any], tmp_path: Path) -> None:
    file = write_config(tmp_path / "config.yaml", config)
    output = Path(load_config(file).output)
    output.mkdir(parents=True)
    script = [sys.executable, str(REPOSITORY / "tests" / "faults" / "two_nodes.py"), "1", "1"]
    cluster = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    try:
        address = next(line.split()[1] for line in cluster.stdout if line.startswith("address "))
        command = [sys.executable, "-c", "from crlft_ray.cli import main; main()", "doctor", str(file)]
        result = subprocess.run(
            [*command, "--address", address, "--json"], capture_output=True, text=True, check=False, timeout=180,
            env=environment(),
        )  # fmt: skip
    finally:
        cluster.stdin.close()
        cluster.wait(60)
    assert result.stdout, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert [finding for finding in found["findings"] if not finding["ok"]] == []
    assert (result.returncode, found["ok"], len(set(found["nodes"]))) == (0, True, 2)
    between = {"ports", "all-reduce gloo"}
    checked = {(finding["check"], finding["node"]) for finding in found["findings"]}
    assert checked == {
        (check, node) for check in EVERYWHERE | between | {"paths", "output", "MLflow"} for node in found["nodes"]
    } | {("MLflow", "driver")}
    speeds = [finding["text"] for finding in found["findings"] if finding["check"] == "all-reduce gloo"]
    assert all(float(text.split(" GB/s over ")[0]) > 0 for text in speeds), speeds
    assert list(output.iterdir()) == [], "something was left there"
