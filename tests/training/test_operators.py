"""A process that is killed while DeepSpeed's operator is built must not stop those that come later."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crlft_ray.training import operators

LOAD = """
from crlft_ray.training.operators import load_operators
load_operators([])
"""


def test_a_mark_that_was_left_behind_is_removed(tmp_path: Path) -> None:
    mark = tmp_path / "py" / "deepspeed_shm_comm" / "lock"
    mark.parent.mkdir(parents=True)
    mark.touch()
    long_ago = time.time() - 2 * operators._OTHERS_S
    os.utime(mark, (long_ago, long_ago))
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path), "DS_ACCELERATOR": "cpu"}
    subprocess.run([sys.executable, "-c", LOAD], env=environment, check=True, timeout=60)
    assert not mark.exists()


def test_a_build_that_goes_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_OTHERS_S", 1.0)
    mark = tmp_path / "lock"
    mark.touch()
    began = time.monotonic()
    operators._wait_for(mark)
    assert time.monotonic() - began >= 0.9
    operators._wait_for(mark)
