"""Is there room on the disks?"""

from __future__ import annotations

import os
import shutil
import tempfile

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
from crlft_ray.storage import Place

CHECK = "disk"
_LEAST_BYTES = 5e9
"""Models are staged there, and a checkpoint is written before an old one is removed."""
_LEAST_SHARE = 0.05
"""Below it Ray refuses to put objects on the disk (RAY_local_fs_capacity_threshold)."""


def free_space(folders: list[str]) -> dict[str, tuple[int, int]]:
    """Free and all bytes of the disks that the folders are on, or will be on."""
    sizes = {}
    for folder in [tempfile.gettempdir(), *folders]:
        there = folder
        while not os.path.isdir(there):  # noqa: PTH112, in a process that may lack everything but Python
            there = os.path.dirname(there)  # noqa: PTH120
        usage = shutil.disk_usage(there)
        sizes[folder] = (usage.free, usage.total)
    return sizes


def check_disk(cluster: Cluster) -> list[Finding]:
    """The temporary folder, and the output if it is a local path."""
    output = cluster.config.output if cluster.config else None
    folders = [Place.of(output).path] if output and "://" not in output else []

    def judge(node: Node, sizes: dict[str, tuple[int, int]]) -> tuple[bool, str]:
        short = [folder for folder, (free, total) in sizes.items() if free < max(_LEAST_BYTES, _LEAST_SHARE * total)]
        text = ", ".join(
            f"{free / 1e9:.0f} of {total / 1e9:.0f} GB free at {name}" for name, (free, total) in sizes.items()
        )
        if short:
            return False, f"{text}: make room at {' and '.join(short)}"
        return True, text

    return judged(CHECK, cluster.ask(free_space, folders), judge)
