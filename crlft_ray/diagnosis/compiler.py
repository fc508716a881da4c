"""Can DeepSpeed build its operator where workers run? It does so at the first start, with c++ and ninja."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from crlft_ray.config import Config
from crlft_ray.device import uses_gpu
from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
from crlft_ray.training.cluster import worker_resources

CHECK = "compiler"
_SHARED_MEMORY = "deepspeed_shm_comm"
_CPU_ADAM = "cpu_adam"


def find_compiler(operator: str) -> dict[str, Any]:
    """What there is of c++ and ninja, why c++ fails at a small file, and whether the operator was built already."""
    compiler = os.environ.get("CXX", "c++")
    found = {"ninja": shutil.which("ninja"), "compiler": compiler, "path": shutil.which(compiler), "fails": None}
    if found["path"]:
        headers = sysconfig.get_path("include")
        result = subprocess.run(
            [compiler, "-fsyntax-only", "-fopenmp", "-std=c++20", f"-I{headers}", "-x", "c++", "-"],
            input="#include <Python.h>\n#include <vector>\n#include <omp.h>\n", capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if "error" in line] or [result.stderr.strip()]
            found["fails"] = errors[0][:200]
    # Where torch.utils.cpp_extension keeps what it has built; importing it to ask takes seconds.
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions")
    pattern = f"{operator}/{operator}.so"
    python = f"py{sys.version_info.major}{sys.version_info.minor}_*"
    built = [*root.glob(f"{python}/{pattern}"), *root.glob(pattern)] if root.is_dir() else []
    return {**found, "built": str(built[0]) if built else None}


def check_compiler(cluster: Cluster) -> list[Finding]:
    """Every node that workers may run on; others need none, such as a head or a driver's node."""
    operator = _needed(cluster.config)
    takes = {node: (operator,) for node in cluster.nodes if operator and _takes_workers(node, cluster.config)}
    none = "none needed: on GPUs DeepSpeed builds an operator only for offload" if operator is None else None
    free = [
        Finding(CHECK, node.name, True, none or "none needed: no worker fits on this node")
        for node in cluster.nodes
        if node not in takes
    ]
    return judged(CHECK, cluster.ask_each(find_compiler, takes, seconds=90), _judge) + free


def _judge(node: Node, found: dict[str, Any]) -> tuple[bool, str]:
    problems = []
    if not found["ninja"]:
        problems.append("ninja is not on the PATH of Ray's workers: pip install ninja there, and start Ray with it")
    if not found["path"] and not found["built"]:
        problems.append(f"no C++ compiler ({found['compiler']}) on the PATH of Ray's workers: install g++ there")
    if found["fails"] and not found["built"]:
        problems.append(f"{found['path']} fails ({found['fails']}): install the headers of Python and OpenMP there")
    if problems:
        return False, "; ".join(problems)
    return True, f"operator is built: {found['built']}" if found["built"] else f"{found['path']}, {found['ninja']}"


def _needed(config: Config | None) -> str | None:
    """DeepSpeed's operator that the run will build."""
    if config is None or not uses_gpu(config):
        return _SHARED_MEMORY
    zero = config.train.deepspeed.get("zero_optimization", {})
    return _CPU_ADAM if (zero.get("offload_optimizer") or {}).get("device", "none") != "none" else None


def _takes_workers(node: Node, config: Config | None) -> bool:
    wanted = worker_resources(config) if config else {"CPU": 1.0}
    return all(node.resources.get(name, 0.0) >= amount for name, amount in wanted.items())
