"""Held-out reports on a cluster with GPUs: Ray counts them, whether there are any or not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.runs import FinishedRun

pytestmark = pytest.mark.slow

DRIVER = """
import json, sys, threading
import ray
from crlft_ray.errors import UserError
from crlft_ray.evaluation.reports import heldout_reports
from crlft_ray.storage import Place

ray.init("local", num_cpus=3, num_gpus=1, include_dashboard=False, log_to_driver=False)
export, shards = sys.argv[1], Place.of(sys.argv[2])
free, done = [], threading.Event()

def watch():
    while not done.wait(0.02):
        free.append(ray.available_resources().get("GPU", 0.0))

watcher = threading.Thread(target=watch)
watcher.start()
(report,) = heldout_reports([export], shards, 1, 1)
done.set()
watcher.join()
try:
    heldout_reports(["./nowhere"], shards, 1, 1)
except UserError as error:
    refused = str(error)
print(json.dumps({"free": [max(free), min(free)], "classes": sorted(report.losses), "refused": refused}))
"""


def test_a_single_model_has_a_gpu_of_its_own(finished: FinishedRun) -> None:
    """In this process, as on CPUs, it would share one with whoever has reserved it."""
    arguments = [finished.trained.export, str(finished.output / "shards")]
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["free"] == [1.0, 0.0], "taken while it was measured"
    assert found["classes"] == ["expert", "mixed"]
    assert found["refused"] == "./nowhere: no such model folder"
