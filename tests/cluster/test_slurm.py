"""What the Slurm script does at Slurm's warning. Slurm's own commands have stand-ins here; Ray is not started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.repository import CLUSTER, is_read_by

SCRIPT = CLUSTER / "slurm/train.sbatch"

STAND_INS = {
    # One node: runs what it is given, without its own options.
    "srun": 'shift 2; exec "$@"',
    # As the real one: what is behind the second `--` runs, its exit code is passed on.
    "ray": 'until [ "$1" = -- ]; do echo "$1" >> ray-options; shift; done; shift; env > environment; "$@"',
    "scontrol": 'echo "$@" > requeued',
}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder in which the script can run: commands, and a driver that ends with what its config says."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in STAND_INS.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (commands / name).chmod(0o755)
    (commands / "python").symlink_to(sys.executable)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/run.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open('arguments', 'w').write(' '.join(sys.argv[1:]))\n"
        "time.sleep(60 if sys.argv[1] == 'long.yaml' else 0)\n"
        "sys.exit(3)\n"
    )
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_ON_NODE": "8"}
    environment = {**os.environ, **slurm, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", str(SCRIPT), *arguments], cwd=folder, env=environment)


def test_a_warned_run_stops_and_is_queued_again(batch: Path) -> None:
    process = start(batch, "long.yaml", "--set", "output=a b")
    deadline = time.monotonic() + 60
    while not (batch / "arguments").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert (batch / "requeued").read_text() == "requeue 7\n"
    assert (batch / "arguments").read_text() == "long.yaml --set output=a b"
    assert not list(batch.glob(".crlft-*"))


def test_another_end_is_passed_on(batch: Path) -> None:
    assert start(batch, "short.yaml").wait(60) == 3
    assert not (batch / "requeued").exists()


def test_ray_is_told_everything(batch: Path) -> None:
    start(batch, "short.yaml").wait(60)
    address = re.search(r"--address\n(\S+:6379)\n", (batch / "ray-options").read_text())
    assert address
    assert "--num-cpus\n4\n--num-gpus\n8\n" in (batch / "ray-options").read_text()
    environment = (batch / "environment").read_text()
    assert re.search(r"^RAY_AUTH_TOKEN=[0-9a-f]{64}$", environment, re.MULTILINE)
    assert "RAY_AUTH_MODE=token\n" in environment


def test_every_variable_is_read_by_ray_and_explained() -> None:
    text = SCRIPT.read_text()
    readme = (CLUSTER / "slurm/README.md").read_text()
    for name in set(re.findall(r"\b(RAY_\w+)\b=", text)):
        # The token itself is read by Ray's core, which is no Python.
        assert is_read_by(name, "ray"), name
        assert f"`{name}`" in readme, name
    assert "**Not tried on a real Slurm.**" in readme


def test_without_a_config_it_says_how_it_is_used(batch: Path) -> None:
    assert start(batch).wait(60) == 2
