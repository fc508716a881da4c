"""Connects to the Ray cluster: the one this process belongs to, or a local one."""

from __future__ import annotations

import logging
import os

_overcount = 0
"""Logical CPUs of the cluster that this process has started beyond the cores of its machine."""


def connect(cpus: int | None = None) -> None:
    """Connects once. In a Ray job, or with RAY_ADDRESS set, to that cluster; otherwise a local one is started.

    A local cluster gets `cpus` logical CPUs; by default more than there are cores: Ray counts CPUs by request, and the
    data tasks beside two workers would otherwise never start on a small machine.
    """
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if not os.environ.get("RAY_ADDRESS"):
        # Ray reads it when it is imported: a local cluster then listens on loopback only, as it does on macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    global _overcount
    if not ray.is_initialized():
        _overcount = 0
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING)
        else:
            cores = os.cpu_count() or 1
            # What workers print stays in Ray's log files; what a person should know comes through our own code.
            _overcount = 0 if cpus else max(2, cores // 4)
            ray.init("local", num_cpus=cpus or cores + _overcount, logging_level=logging.WARNING, log_to_driver=False)
            _warm_up()
    quiet_ray_data()


def task_slots() -> int:
    """How many CPU-bound tasks the cluster runs at full speed; more at once would only cost start-up and memory."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)) - _overcount)


def _warm_up() -> None:
    """Lets the workers start and import what data tasks need while this process goes on with something else."""
    import ray

    # Nobody waits for them: Ray drops a result that has no reference left.
    for _ in range(task_slots() + 1):
        ray.remote(num_cpus=1)(_import_what_tasks_need).remote()


def _import_what_tasks_need() -> None:
    import ray.data  # noqa: F401

    import crlft_ray.shards.tokenise  # noqa: F401


def quiet_ray_data() -> None:
    """Keeps Ray Data's announcements of every pipeline out of the way; its errors stay."""
    import ray.data  # noqa: F401, its import sets the level that is changed here

    logging.getLogger("ray.data").setLevel(logging.ERROR)
