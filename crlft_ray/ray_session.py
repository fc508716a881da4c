"""Connects to the Ray cluster: the one this process belongs to, or a local one."""

from __future__ import annotations

import logging
import os


def connect(cpus: int | None = None) -> None:
    """Connects once. In a Ray job, or with RAY_ADDRESS set, to that cluster; otherwise a local one is started.

    A local cluster gets `cpus` logical CPUs; by default more than there are cores: Ray counts CPUs by request, and the
    data tasks beside two workers would otherwise never start on a small machine.
    """
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    import ray

    if not ray.is_initialized():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING)
        else:
            cores = os.cpu_count() or 1
            # What workers print stays in Ray's log files; what a person should know comes through our own code.
            ray.init(num_cpus=cpus or cores + max(2, cores // 4), logging_level=logging.WARNING, log_to_driver=False)
    quiet_ray_data()


def quiet_ray_data() -> None:
    """Keeps Ray Data's announcements of every pipeline out of the way; its errors stay."""
    import ray.data  # noqa: F401, its import sets the level that is changed here

    logging.getLogger("ray.data").setLevel(logging.ERROR)
