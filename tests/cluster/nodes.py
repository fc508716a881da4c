"""Ray nodes on hosts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tests.cluster.hosts import REPOSITORY, Host, environment

_PORT = 6379
# Everything that Ray listens at; the ports that the system chooses are all above them.
_PORTS = {
    "node-manager-port": 10300, "object-manager-port": 10301, "runtime-env-agent-port": 10302,
    "metrics-export-port": 10303, "dashboard-agent-listen-port": 10304, "dashboard-agent-grpc-port": 10305,
    "min-worker-port": 10400, "max-worker-port": 10600,
}  # fmt: skip
# As a service or a container would: a node that Ray has declared dead never comes back by itself.
_AGAIN = 'while :; do "$@"; sleep 1; done'


@contextmanager
def ray_node(
    host: Host,
    head: Host,
    *,
    python: Sequence[str | Path] = (sys.executable,),
    env: Mapping[str, str] | None = None,
    before: str = ":",
    cpus: int = 1,
    resources: Mapping[str, float] | None = None,
    jobs: bool = False,
    again: bool = False,
    redis_password: str | None = None,
    apart: bool = False,
) -> Iterator[str]:
    """A Ray node on a host; gives the cluster's address.

    Args:
        python: what runs `ray`.
        before: a shell command before it.
        jobs: the head takes jobs, at its port 8265.
        again: the node is started again whenever it ends.
        apart: it sees no processes of other hosts; Ray looks among all for a head that runs already.
        redis_password: of the Redis that a head keeps its state in, as KubeRay gives it.
    """
    address = f"{head.address}:{_PORT}"
    begin = ("-m", "ray.scripts.scripts") if len(python) == 1 else ()
    options = ["--block", "--disable-usage-stats", f"--num-cpus={cpus}", f"--node-ip-address={host.address}"]
    options += [f"--resources={json.dumps(dict(resources or {}))}"]
    options += [f"--{name}={port}" for name, port in _PORTS.items()]
    options += [f"--redis-password={redis_password}"] if redis_password else []
    with ExitStack() as undo:
        if host == head:
            options += ["--head", f"--port={_PORT}"]
            options += [f"--dashboard-host={head.address}"] if jobs else ["--include-dashboard=false"]
            if host.tmp is None:
                # Short, because it holds sockets; of its own, because other clusters may run on this machine.
                folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
                options += [f"--temp-dir={undo.enter_context(folder)}"]
        else:
            options += [f"--address={address}"]
        loop = ("/bin/sh", "-c", _AGAIN, "sh") if again else ()
        command = host.command(*loop, *python, *begin, "start", *options, before=before, apart=apart)
        log = undo.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(env), cwd=REPOSITORY)
        undo.callback(process.wait, 60)
        undo.callback(host.power_off)
        _wait_until_started(process, log)
        yield address


def _wait_until_started(process: subprocess.Popen[bytes], log: IO[str]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        log.seek(0)
        said = log.read()
        if "Ray runtime started" in said:
            return
        assert process.poll() is None, said
        time.sleep(0.1)
    raise TimeoutError(said)
