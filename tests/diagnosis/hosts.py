"""Two hosts on this machine: network namespaces with an address each, joined by a cable. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MISSING = None if os.geteuid() == 0 and shutil.which("ip") else "network namespaces need root and iproute2"
"""Why there can be no hosts here."""
_PORT = 6379
_TOKEN = uuid.uuid4().hex
# Everything that Ray listens at; the ports that the system chooses are all above them.
_PORTS = {
    "node-manager-port": 10300, "object-manager-port": 10301, "runtime-env-agent-port": 10302,
    "metrics-export-port": 10303, "dashboard-agent-listen-port": 10304, "dashboard-agent-grpc-port": 10305,
    "min-worker-port": 10400, "max-worker-port": 10600,
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """A network namespace."""

    namespace: str
    address: str

    def command(self, *arguments: str | Path, before: str = ":") -> list[str]:
        """A command line that runs on this host, after a shell command there, in a mount namespace of its own."""
        shell = f'{before} && exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "/bin/sh", "-c", shell, "sh", *map(str, arguments)]

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of this Python to its end."""
        return subprocess.run(
            self.command(sys.executable, *arguments), capture_output=True, text=True, check=False, timeout=180,
            env=environment(env), cwd=REPOSITORY,
        )  # fmt: skip


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with this repository's package first, without a cluster, and with the token of the tests' own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
    return {**kept, **own, **(more or {})}


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other."""
    one, two = (Host(f"crlft-{os.getpid()}-{number}", f"10.213.0.{number}") for number in (1, 2))
    with ExitStack() as undo:
        for host in (one, two):
            _ip("netns", "add", host.namespace)
            undo.callback(_ip, "netns", "del", host.namespace)
        _ip("link", "add", "cable", "netns", one.namespace, "type", "veth", "peer", "cable", "netns", two.namespace)
        for host in (one, two):
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "cable")
            for interface in ("lo", "cable"):
                _ip("-n", host.namespace, "link", "set", interface, "up")
        yield one, two


def block_chosen_ports(host: Host) -> None:
    """A firewall that silently drops what comes to the ports that the system chooses, from such ports; Ray's own stay
    open. Rules are asked in the order of their numbers; that of local addresses is 0 and has to wait."""
    chosen = "32768-60999"
    rules = [
        ("add", "pref", "100", "lookup", "local"),
        ("del", "pref", "0"),
        ("add", "pref", "50", "iif", "cable", "ipproto", "tcp", "sport", chosen, "dport", chosen, "blackhole"),
    ]
    for rule in rules:
        _ip("-n", host.namespace, "rule", *rule)


@contextmanager
def ray_node(
    host: Host,
    head: Host,
    *,
    python: Sequence[str | Path] = (sys.executable,),
    env: Mapping[str, str] | None = None,
    before: str = ":",
) -> Iterator[str]:
    """A Ray node on a host; gives the cluster's address. `python` is what runs `ray`."""
    address = f"{head.address}:{_PORT}"
    begin = ("-m", "ray.scripts.scripts") if len(python) == 1 else ()
    options = ["--block", "--disable-usage-stats", "--num-cpus=1", f"--node-ip-address={host.address}"]
    options += [f"--{name}={port}" for name, port in _PORTS.items()]
    with ExitStack() as undo:
        if host == head:
            # Short, because it holds sockets; of its own, because other clusters may run on this machine.
            folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
            options += ["--head", f"--port={_PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
        else:
            options += [f"--address={address}"]
        command = host.command(*python, *begin, "start", *options, before=before)
        log = undo.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(env), cwd=REPOSITORY)
        undo.callback(_end, process)
        _wait_until_started(process, log)
        yield address


def _wait_until_started(process: subprocess.Popen[bytes], log: object) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log.seek(0)  # type: ignore[attr-defined]
        said = log.read()  # type: ignore[attr-defined]
        if "Ray runtime started" in said:
            return
        assert process.poll() is None, said
        time.sleep(0.1)
    raise TimeoutError(said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """`ray start --block` ends its node with itself."""
    process.terminate()
    process.wait(60)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)
