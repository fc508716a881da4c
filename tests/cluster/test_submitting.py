"""`ray job submit` on three hosts, by the documented commands, with the token and without."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import MISSING
from tests.faults import runs
from tests.registry.conftest import write_suite
from tests.runs import write_learnable

pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture(scope="module")
def trained(cluster: Cluster) -> tuple[Path, Path, str]:
    """Config, output and what was shown of a run, prepared and trained by two jobs."""
    config, output = cluster.new_run("trained")
    for stage in ("prepare", "train"):
        job = cluster.submit(stage, f"jobs/{stage}.py", config)
        assert job.returncode == 0, job.stdout
        assert f"Job '{stage}' succeeded" in job.stdout
    return config, output, job.stdout


def test_a_training_across_the_hosts(cluster: Cluster, trained: tuple[Path, Path, str]) -> None:
    _, output, shown = trained
    result = json.loads((output / "result.json").read_text())
    assert result["steps"] == 18
    # It was followed to its last line, and says where the model is.
    assert str(output / "export") in shown
    assert set(runs.curve(output)) == set(range(1, 19))
    for host in cluster.workers:
        assert re.search(rf"the model is on 2 node\(s\): .*{re.escape(host.address)} \d+\.\d s", shown), shown
    assert set(_ranks_by_host(cluster)) == {host.address for host in cluster.workers}


def test_an_evaluation(cluster: Cluster, trained: tuple[Path, Path, str]) -> None:
    _, output, _ = trained
    suite = write_suite(cluster.shared / "suites" / "replies", count=40)
    job = cluster.submit(
        "evaluate", "jobs/evaluate.py", output / "export", "--suite", suite, "--output", cluster.shared / "evaluated"
    )
    assert job.returncode == 0, job.stdout
    assert "replies" in job.stdout
    assert (cluster.shared / "evaluated" / "report.html").exists()


@pytest.mark.long
def test_a_source_that_only_the_head_sees(cluster: Cluster) -> None:
    assert cluster.head.tmp is not None
    write_learnable(cluster.head.tmp / "here.jsonl")
    config, output = cluster.new_run("unseen", Path("/tmp/here.jsonl"))
    job = cluster.submit("unseen", "jobs/prepare.py", config)
    assert job.returncode != 0
    assert "Traceback" not in job.stdout, job.stdout
    for host in cluster.workers:
        assert f"{host.address}: data.sources.0.path: /tmp/here.jsonl is at the driver, but not there" in job.stdout
    assert not list(output.glob("shards*"))


@pytest.mark.parametrize(
    "stranger",
    [{"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}, {"RAY_AUTH_TOKEN": "0" * 32}],
    ids=["no token", "a wrong one"],
)
def test_strangers(cluster: Cluster, stranger: dict[str, str]) -> None:
    """They are refused, and nothing has run."""
    mark = cluster.shared / "mark"
    job = cluster.submit("stranger", "-c", f"open('{mark}','w')", env=stranger)
    assert job.returncode != 0
    assert "auth" in job.stdout.lower(), job.stdout
    assert not mark.exists()
    assert "stranger" not in cluster.ask("job", "list")


def test_the_dashboard_asks_for_the_token(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{cluster.head.address}:8265/api/jobs/", timeout=30)


def _ranks_by_host(cluster: Cluster) -> Sequence[str]:
    """Addresses of the hosts on which a training worker has written its log."""
    return [host.address for host in cluster.workers if _has_worker(host.tmp)]


def _has_worker(tmp: Path | None) -> bool:
    assert tmp is not None
    return any("RayTrainWorker" in log.read_text(errors="replace") for log in tmp.glob("ray/session_*/logs/*.out"))
