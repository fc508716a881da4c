"""A training that needs more memory than its node has ends with one message that says what takes less."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]

_TRAINING = """
import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from crlft_ray.training.failure import first_cause

def fill():
    import time
    held = bytearray(4 * 10**9)
    for start in range(0, len(held), 4096):
        held[start] = 1
    time.sleep(120)

ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
try:
    once = RunConfig(failure_config=FailureConfig(max_failures=0))
    TorchTrainer(fill, scaling_config=ScalingConfig(num_workers=1), run_config=once).fit()
except (TrainingFailedError, RayError) as error:
    print("CAUSE", first_cause(error))
"""


def test_a_full_node_is_named_with_what_takes_less_memory() -> None:
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 3 * 10**9) / memory.total
    run = subprocess.run(
        [sys.executable, "-c", _TRAINING],
        env={**os.environ, "RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    cause = next((line for line in run.stdout.splitlines() if line.startswith("CAUSE ")), run.stdout + run.stderr)
    assert "memory was full (" in cause, cause
    assert "data.pack_tokens" in cause
