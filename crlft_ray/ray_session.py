"""Connects to the Ray cluster: the one this process belongs to, or a local one."""

from __future__ import annotations

import logging
import os
import socket

from crlft_ray.errors import UserError

_ANSWER_S = 5.0

_overcount = 0
"""Logical CPUs of the cluster that this process has started beyond the cores of its machine."""
_own = False


def connect(cpus: int | None = None, address: str | None = None, *, warm_up: bool = False) -> None:
    """Connects once. In a Ray job, or with RAY_ADDRESS set, to that cluster; otherwise a local one is started.

    `address` goes before RAY_ADDRESS.

    A local cluster gets `cpus` logical CPUs; by default more than there are cores: Ray counts CPUs by request, and the
    data tasks beside two workers would otherwise never start on a small machine. With `warm_up` the processes of its
    data tasks start and import while this process goes on; a training has no use for them, and needs the CPUs itself.

    Raises:
        UserError: nobody answers at the address, the cluster has another Ray or Python version or asks for a token,
            or this machine is not part of it.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if not (address or os.environ.get("RAY_ADDRESS")):
        # Ray reads it when it is imported: a local cluster then listens on loopback only, as it does on macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if address and ray.is_initialized() and ray.get_runtime_context().gcs_address != address:
        raise UserError(
            f"this process belongs to the cluster at {ray.get_runtime_context().gcs_address}, not {address}"
        )
    if not ray.is_initialized():
        address = address or os.environ.get("RAY_ADDRESS")
        if address and address != "local":
            _join(address)
        else:
            _start_local(cpus)
            if warm_up:
                _warm_up()


def _start_local(cpus: int | None) -> None:
    global _overcount, _own
    import ray

    # A batch system may have given this process some of the machine's cores alone.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpus = cpus or cores + max(2, cores // 4)
    _overcount, _own = max(0, cpus - cores), True
    # Its processes have this environment. Nobody takes this machine back, and it has few workers to ask.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # Ray announces four times as many processes as it would start at once as a finding, in the middle of what a person
    # reads; two trials side by side have more, and most of them wait.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(8 * cores))
    # Each process takes nearly a hundredth of a core from those that train, also when it has nothing to do. Ray would
    # keep as many as there are CPUs, and end others after a second; warm ones wait longer for a task.
    os.environ.setdefault("RAY_num_workers_soft_limit", "0")
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "20000")
    # Nobody is shown any logs, so they are looked for once an hour; else ten times a second, more of them with every
    # process, unless there are more than so many.
    os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "3600")
    os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "0")
    ray.init(
        "local",
        num_cpus=cpus,
        # It would end with this process; its processes take from those that train.
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )


def is_own_cluster() -> bool:
    """Whether this process has started the cluster, so that no other node will come."""
    return _own


def _join(address: str) -> None:
    global _overcount, _own
    import ray

    _overcount, _own = 0, False
    _check_answer(address)
    try:
        # What workers print stays in Ray's log files; what a person should know comes through our own code.
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except Exception as error:
        # Ray has no class of its own for most of these.
        raise UserError(f"Ray at {address}: {_what_to_do(error)}") from error


def _check_answer(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal():
        raise UserError(f"Ray's address is host:port, such as 10.0.0.1:6379, not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        reason = f"no answer within {_ANSWER_S:.0f} s" if isinstance(error, TimeoutError) else error.strerror
        raise UserError(
            f"Ray at {address}: nobody answers there ({reason}); start the cluster (`ray start --head`), or give the "
            "address that it said"
        ) from None


def _what_to_do(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    if "Version mismatch" in lines[0]:
        # "Ray: …" and "Python: …", first the cluster's and then this process's.
        versions = [line.replace(":", "") for line in lines if line.startswith(("Ray:", "Python:"))]
        half = len(versions) // 2
        there, here = ", ".join(versions[:half]), ", ".join(versions[half:])
        return f"the cluster has {there}, and this process {here}; they must be the same everywhere"
    return " ".join(lines)[:600]


def task_slots() -> int:
    """How many CPU-bound tasks the cluster runs at full speed; more at once would only cost start-up and memory."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)) - _overcount)


def _warm_up() -> None:
    import ray

    # Nobody waits for them: Ray drops a result that has no reference left.
    for _ in range(task_slots() + 1):
        ray.remote(num_cpus=1)(_import_what_tasks_need).remote()


def _import_what_tasks_need() -> None:
    import crlft_ray.shards.tokenise  # noqa: F401
