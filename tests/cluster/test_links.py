"""Cables that are pulled in the middle of a training: for longer than Ray waits for a host, and for shorter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import MISSING
from tests.faults import runs

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

EPOCHS = 20
"""Long enough for everything that happens to it."""


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Path:
    """Output of the same run to which nothing happened."""
    config, output = _prepared(cluster, "undisturbed")
    assert cluster.submit("undisturbed", "jobs/train.py", config).returncode == 0
    return output


def test_a_link_that_is_cut_for_two_minutes(cluster: Cluster, undisturbed: Path) -> None:
    config, output = _prepared(cluster, "cut")
    with cluster.submitting("cut", "jobs/train.py", config) as job:
        runs.wait_for(lambda: runs.steps_seen(output) >= 15, 180)
        cluster.workers[1].cut()
        time.sleep(120)
        assert job.process.poll() is None, job.said
        cluster.workers[1].mend()
        assert job.process.wait(300) == 0, job.said
    # It was noticed: the run has begun again from a checkpoint.
    assert "going on from step" in job.said, job.said
    _ends_as(output, undisturbed)


def test_a_link_that_flaps(cluster: Cluster, undisturbed: Path) -> None:
    config, output = _prepared(cluster, "flapping")
    with cluster.submitting("flapping", "jobs/train.py", config) as job:
        runs.wait_for(lambda: runs.steps_seen(output) >= 15, 180)
        for _ in range(3):
            cluster.workers[1].cut()
            time.sleep(5)
            cluster.workers[1].mend()
            time.sleep(2)
        assert job.process.wait(300) == 0, job.said
    _ends_as(output, undisturbed)


def _prepared(cluster: Cluster, name: str) -> tuple[Path, Path]:
    config, output = cluster.new_run(name, train={"epochs": EPOCHS, "checkpoint_every": 10})
    job = cluster.submit(f"prepare-{name}", "jobs/prepare.py", config)
    assert job.returncode == 0, job.stdout
    return config, output


def _ends_as(output: Path, undisturbed: Path) -> None:
    """The exact-resume rule: the same bits, and one run with each step once."""
    assert runs.weights(output) == runs.weights(undisturbed)
    assert runs.curve(output) == runs.curve(undisturbed)
