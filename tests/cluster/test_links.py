"""Cables that are pulled in the middle of a training: for longer than Ray waits for a host, and for shorter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import MISSING
from tests.cluster.longer import ends_as, repeated
from tests.faults import runs

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


def test_a_link_that_is_cut_for_two_minutes(cluster: Cluster, undisturbed: Path) -> None:
    config, output = repeated(cluster, "cut", undisturbed)
    with cluster.submitting("cut", "jobs/train.py", config) as job:
        runs.wait_for(lambda: runs.steps_seen(output) >= 15, 180)
        cluster.workers[1].cut()
        time.sleep(120)
        assert job.process.poll() is None, job.said
        cluster.workers[1].mend()
        assert job.process.wait(300) == 0, job.said
    # It was noticed: the run has begun again from a checkpoint.
    assert "going on from step" in job.said, job.said
    ends_as(output, undisturbed)


def test_a_link_that_flaps(cluster: Cluster, undisturbed: Path) -> None:
    config, output = repeated(cluster, "flapping", undisturbed)
    with cluster.submitting("flapping", "jobs/train.py", config) as job:
        runs.wait_for(lambda: runs.steps_seen(output) >= 15, 180)
        for _ in range(3):
            cluster.workers[1].cut()
            time.sleep(5)
            cluster.workers[1].mend()
            time.sleep(1)
        assert job.process.wait(300) == 0, job.said
    ends_as(output, undisturbed)
