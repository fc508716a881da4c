"""Loaded by every Python process of a run under test (PYTHONPATH): kills the one that CRLFT_FAULT names, where it says.

    CRLFT_FAULT='{"victim": "rank" | "driver", "rank": 1, "place": "start" | "step" | "checkpoint" | "upload",
                  "call": 3, "once": "/folder/of/a/marker", "driver": "/file/with/its/pid"}'

The kill is SIGKILL, in the middle of the named function of the product, which knows nothing of it.
"""

# mypy: ignore-errors
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

FAULT = json.loads(os.environ.get("CRLFT_FAULT", "{}"))
PLACES = {
    "start": ("crlft_ray.training.engine", "build_engine"),
    "step": ("crlft_ray.training.step", "Stepper._micro_batch"),
    "checkpoint": ("crlft_ray.checkpoints.snapshot", "Snapshots.save"),
    "upload": ("crlft_ray.checkpoints.writer", "_Hashing.write"),
}


def _rank():
    import torch.distributed as dist

    return dist.get_rank() if dist.is_initialized() else -1


def _strike():
    once = Path(FAULT["once"])
    try:
        once.touch(exist_ok=False)
    except FileExistsError:
        return
    if FAULT["victim"] == "driver":
        os.kill(int(Path(FAULT["driver"]).read_text()), signal.SIGKILL)
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(function):
    calls = 0

    def faulty(*arguments, **keywords):
        nonlocal calls
        done = function(*arguments, **keywords)
        if _rank() == FAULT["rank"]:
            calls += 1
            if calls == FAULT["call"]:
                _strike()
        return done

    return faulty


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        module, place = PLACES[FAULT["place"]]
        if name != module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(loaded):
            execute(loaded)
            owner, _, method = place.rpartition(".")
            holder = getattr(loaded, owner) if owner else loaded
            setattr(holder, method or place, _wrapped(getattr(holder, method or place)))

        spec.loader.exec_module = exec_module
        return spec


if FAULT:
    sys.meta_path.insert(0, _Finder())
