"""Hosts on this machine: network namespaces with an address, a name and, if asked for, a /tmp of their own, joined by a
switch that this machine is at, too. Needs root and iproute2."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MISSING = None if os.geteuid() == 0 and shutil.which("ip") else "network namespaces need root and iproute2"
"""Why there can be no hosts here."""
_TOKEN = uuid.uuid4().hex
_networks = itertools.count()


@dataclass(frozen=True)
class Host:
    """A network namespace."""

    namespace: str
    address: str
    here: str = ""
    """Address of this machine at the same switch."""
    tmp: Path | None = None
    """The folder that is its /tmp; None for this machine's."""

    def command(self, *arguments: str | Path, before: str = ":", apart: bool = False) -> list[str]:
        """A command line that runs on this host, after a shell command there, in a mount namespace of its own; `apart`:
        it sees no processes but its own."""
        steps = [f"hostname {self.namespace}", *self._own_tmp(), before, '"$@"']
        own = ["--pid", "--fork", "--mount-proc"] if apart else []
        shell = ["unshare", "--uts", *own, "/bin/sh", "-c", " && ".join(steps), "sh"]
        return ["ip", "netns", "exec", self.namespace, *shell, *map(str, arguments)]

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of this Python to its end."""
        return subprocess.run(
            self.command(sys.executable, *arguments), capture_output=True, text=True, check=False, timeout=180,
            env=environment(env), cwd=REPOSITORY,
        )  # fmt: skip

    def cut(self) -> None:
        """Pulls the cable."""
        _ip("-n", self.namespace, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Puts it in again."""
        _ip("-n", self.namespace, "link", "set", "cable", "up")

    def power_off(self) -> None:
        """Kills all processes of the host."""
        deadline = time.monotonic() + 30
        while found := _ip("netns", "pids", self.namespace).split():
            assert time.monotonic() < deadline, found
            for process in map(int, found):
                # It may have ended with its parent.
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)

    def _own_tmp(self) -> list[str]:
        if self.tmp is None:
            return []
        steps = []
        # What lies in this machine's /tmp and every host needs: the code and its Python.
        for kept in (REPOSITORY, Path(sys.prefix)):
            if kept.is_relative_to("/tmp"):
                place = shlex.quote(str(self.tmp / kept.relative_to("/tmp")))
                steps += [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(kept))} {place}"]
        return [*steps, f"mount --rbind {shlex.quote(str(self.tmp))} /tmp"]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with this repository's package and Python first, without a cluster, and with the token of the
    tests' own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PYTHONPATH": str(REPOSITORY), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
    return {**kept, **own, **(more or {})}


@contextmanager
def hosts(count: int, folder: Path | None = None) -> Iterator[Sequence[Host]]:
    """Hosts that reach each other and this machine; each has a /tmp below `folder`, if there is one."""
    _clear_away()
    number_here = next(_networks)
    # Others may be there at once, of this process and of another one.
    network = (os.getpid() + 7 * number_here) % 250
    prefix, here = f"10.213.{network}", f"10.213.{network}.254"
    switch = f"crlft{os.getpid()}{string.ascii_lowercase[number_here]}"
    with ExitStack() as undo:
        _ip("link", "add", switch, "type", "bridge")
        undo.callback(_ip, "link", "del", switch)
        _ip("address", "add", f"{here}/24", "dev", switch)
        _ip("link", "set", switch, "up")
        made = []
        for number in range(1, count + 1):
            name = f"crlft-{os.getpid()}-{network}-{number}"
            host = Host(name, f"{prefix}.{number}", here, folder and folder / f"host-{number}")
            if host.tmp is not None:
                host.tmp.mkdir(mode=0o1777)
            _ip("netns", "add", host.namespace)
            undo.callback(_ip, "netns", "del", host.namespace)
            undo.callback(host.power_off)
            port = f"{switch}-{number}"
            _ip("link", "add", port, "type", "veth", "peer", "cable", "netns", host.namespace)
            _ip("link", "set", port, "master", switch, "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "cable")
            for interface in ("lo", "cable"):
                _ip("-n", host.namespace, "link", "set", interface, "up")
            made.append(host)
        yield made


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


def _clear_away() -> None:
    """Removes what tests that were killed have left: it would answer at our addresses."""
    for namespace in re.findall(r"^crlft-\d+-\d+-\d+", _ip("netns", "list"), re.MULTILINE):
        process = namespace.split("-")[1]
        if not Path("/proc", process).exists():
            Host(namespace, "").power_off()
            _ip("netns", "del", namespace)
    for switch, process in re.findall(r": (crlft(\d+)[a-z]): ", _ip("link", "show", "type", "bridge")):
        if not Path("/proc", process).exists():
            _ip("link", "del", switch)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, timeout=20, capture_output=True, text=True).stdout
