"""The whole line on hosts that share no folder: S3 for all files, MLflow on PostgreSQL with users; and no credential is
left anywhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pyarrow import fs

from tests.cluster.cluster import Cluster, three_hosts
from tests.cluster.hosts import MISSING
from tests.object_store import ObjectStore
from tests.postgres import postgres_programs
from tests.registry.conftest import write_suite
from tests.runs import run_config, write_config, write_learnable
from tests.tracking.protected import Site, protected_server
from tests.tracking.server import points

PROGRAMS = postgres_programs()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(
        PROGRAMS is None, reason="PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql/*/bin"
    ),
]


@dataclass(frozen=True)
class Done:
    """What a job has left, and where."""

    cluster: Cluster
    site: Site
    secrets: tuple[str, ...]
    shown: str
    code: int
    bucket: Any
    """`pyarrow.fs.SubTreeFileSystem` of everything in the store."""


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    assert PROGRAMS is not None
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    env = {
        "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
        "MLFLOW_TRACKING_USERNAME": "trainer",
    }  # fmt: skip
    # The switch must be there before a server can listen at its address: the password is made first.
    password = secrets.token_urlsafe(18)
    env["MLFLOW_TRACKING_PASSWORD"] = password
    with three_hosts(tiny_model, env) as cluster:
        folder = tmp_path_factory.mktemp("site")
        store = ObjectStore(cluster.head.here)
        try:
            with protected_server(PROGRAMS, folder, cluster.head.here, {"trainer": password}) as site:
                job = cluster.submit("line", "jobs/run.py", _config(cluster, site, store))
                bucket = fs.SubTreeFileSystem("bucket", _as(store, key, secret))
                yield Done(cluster, site, (secret, *site.passwords.values()), job.stdout, job.returncode, bucket)
        finally:
            store.end()


def _config(cluster: Cluster, site: Site, store: ObjectStore) -> Path:
    source = write_learnable(cluster.shared / "conversations.jsonl")
    suite = write_suite(cluster.shared / "suites" / "replies")
    raw = run_config(
        cluster.shared / "model",
        store.uri("runs/line", user=""),  # type: ignore[arg-type]
        source,
        tracking={"uri": site.uri},
        train={"resources_per_worker": {"CPU": 1, "trains": 1}},
        evaluate={"suites": [str(suite)]},
        register={"name": "from-the-hosts", "suite": str(suite)},
    )
    return write_config(cluster.shared / "line.yaml", raw)


def test_the_whole_line(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    assert done.code == 0, done.shown
    result = json.loads(done.bucket.open_input_stream("runs/line/result.json").read())
    done.site.become("trainer", monkeypatch)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", None)
    client = MlflowClient()
    run = client.get_run(result["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert set(points(done.site.uri, run.info.run_id, "train/loss")) == set(range(1, result["steps"] + 1))
    version = client.get_model_version_by_alias("from-the-hosts", "champion")
    assert version.run_id == run.info.run_id


def test_no_credential_is_left(done: Done, tmp_path: Path) -> None:
    """In what was shown, Ray's files on every host, the shared folder, the store, MLflow's database and artifacts."""
    assert _found(done, done.shown.encode()) == []
    searched = named = 0
    tmps = [host.tmp for host in (done.cluster.head, *done.cluster.workers)]
    for folder in (*tmps, done.cluster.shared, done.site.server.folder / "artifacts"):
        assert folder is not None
        for file in folder.rglob("*"):
            if file.is_file():
                searched += 1
                named += done.site.uri.encode() in file.read_bytes()
                assert _found(done, file.read_bytes()) == [], file
    for info in done.bucket.get_file_info(fs.FileSelector("", recursive=True)):
        if info.is_file:
            searched += 1
            assert _found(done, done.bucket.open_input_stream(info.path).read()) == [], info.path
    assert searched > 100
    assert named > 0, "what a job knows of its server is not where it was looked for"
    assert _found(done, done.site.database.dump("mlflow")) == []


def _found(done: Done, content: bytes) -> list[str]:
    return [secret for secret in done.secrets if secret.encode() in content or done.site.reveals(content)]


def _as(store: ObjectStore, key: str, secret: str) -> Any:
    return fs.S3FileSystem(
        access_key=key, secret_key=secret, region="us-east-1", scheme="http", endpoint_override=store.endpoint
    )
