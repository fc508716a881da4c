"""DeepSpeed's operators, which are built at the first start on a node.

torch marks a build by a file `lock`, and whoever finds one waits until it is gone: for ever, if the process that made
it was killed. So processes of this project take turns by a lock that ends with its holder; a mark that lies there in
one's own turn is nobody's, or another program's that is at work.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

log = logging.getLogger(__name__)

_OTHERS_S = 120.0
"""A build takes half a minute; a mark that is older than this is nobody's."""


def load_operators(names: list[str]) -> None:
    """Builds and loads DeepSpeed's operators, such as ShareMemCommBuilder; one process of a node after the other."""
    from deepspeed.accelerator import get_accelerator
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    root.mkdir(parents=True, exist_ok=True)
    with (root / "crlft.turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for mark in root.glob("**/lock"):
            _wait_for(mark)
        for name in names:
            get_accelerator().create_op_builder(name).load(verbose=False)


def _wait_for(mark: Path) -> None:
    """Waits for another program's build; a mark that was left behind is removed."""
    while True:
        try:
            age = time.time() - mark.stat().st_mtime
        except FileNotFoundError:
            return
        if age > _OTHERS_S:
            log.warning("%s was left behind by a process that is gone, and is removed", mark)
            mark.unlink(missing_ok=True)
            return
        time.sleep(0.5)
