"""One node on which all is well: every check is green (of several: tests/cluster/test_doctor.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.diagnosis.examine import doctor
from crlft_ray.storage import Place
from tests.cli.command import crlft
from tests.object_store import ObjectStore
from tests.runs import write_config
from tests.synthetic import raw_config, write_conversations
from tests.tracking.server import Server

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
