"""Does Ray offer the GPUs that a node has, and can torch use them?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node

CHECK = "GPUs"


def see_gpus(offered: int) -> tuple[int, int]:
    """How many NVIDIA devices the node has, and how many GPUs torch sees when Ray hides none."""
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if not devices and not offered:
        return 0, 0
    # Ray hides GPUs from a process that asked for none.
    hiding = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    env = {name: value for name, value in os.environ.items() if name not in hiding}
    program = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    result = subprocess.run(program, env=env, capture_output=True, text=True, check=True, timeout=60)
    return devices, int(result.stdout.split()[-1])


def check_gpus(cluster: Cluster) -> list[Finding]:
    """Compares what Ray says with what is there."""
    offered = {node: (int(node.resources.get("GPU", 0)),) for node in cluster.nodes}

    def judge(node: Node, seen: tuple[int, int]) -> tuple[bool, str]:
        (ray_says,), (devices, torch_sees) = offered[node], seen
        if torch_sees < ray_says:
            return False, (
                f"Ray offers {ray_says} GPUs, but torch sees {torch_sees}: install the driver and a torch build for "
                "CUDA there, or start Ray with the right --num-gpus"
            )
        if ray_says < max(devices, torch_sees):
            there = max(devices, torch_sees)
            return False, f"has {there} GPUs, but Ray offers {ray_says}: start Ray there with --num-gpus={there}"
        return True, f"{ray_says}, as Ray says" if ray_says else "none, as Ray says"

    return judged(CHECK, cluster.ask_each(see_gpus, offered, seconds=90), judge)
