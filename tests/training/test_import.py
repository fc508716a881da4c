"""What a worker imports, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from crlft_ray.training.engine import import_deepspeed
assert import_deepspeed().initialize
assert not {"mlflow", "torch._inductor.compile_fx", "networkx"} & sys.modules.keys()
from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam
assert "torch._inductor.compile_fx" not in sys.modules
import mlflow
assert mlflow.set_tracking_uri
"""


def test_deepspeed_takes_neither_mlflow_nor_a_compiler_with_it() -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=120)
