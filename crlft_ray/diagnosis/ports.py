"""Can every node open a connection to every other, at any port? gloo, NCCL and Ray Train choose theirs at random."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node

CHECK = "ports"
_GREETING = b"crlft doctor"
_OPEN_S = 60.0
_PATIENCE_S = 5.0


def listen(address: str, seconds: float, greeting: bytes) -> tuple[int, str]:
    """Greets whoever connects, for so long; returns the port and the range that the system takes such ports from."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, 0), family=family, backlog=1024)
    deadline = time.monotonic() + seconds

    def serve() -> None:
        with server:
            while (left := deadline - time.monotonic()) > 0:
                server.settimeout(left)
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    return
                with connection:
                    connection.sendall(greeting)

    threading.Thread(target=serve, daemon=True).start()
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return server.getsockname()[1], "-".join(limits.read_text().split()) if limits.exists() else "1024-65535"


def reach(targets: dict[str, tuple[str, int]], seconds: float, greeting: bytes) -> dict[str, str]:
    """Tries address and port of each name at once; why it did not succeed, for those where it did not."""

    def attempt(target: tuple[str, int]) -> str | None:
        try:
            with socket.create_connection(target, timeout=seconds) as connection:
                connection.settimeout(seconds)
                heard = connection.recv(len(greeting))
        except TimeoutError:
            return f"no answer within {seconds:.0f} s"
        except OSError as error:
            return error.strerror or str(error)
        return None if heard == greeting else "somebody else answered"

    with ThreadPoolExecutor(64) as pool:
        reasons = list(pool.map(attempt, targets.values()))
    return {name: reason for name, reason in zip(targets, reasons, strict=True) if reason}


def check_ports(cluster: Cluster) -> list[Finding]:
    """Tries one port of every node from every other, both ways; nothing to do on a single node."""
    if len(cluster.nodes) < 2:
        return []
    listening = cluster.ask_each(listen, {node: (node.address, _OPEN_S, _GREETING) for node in cluster.nodes})
    ports = {node: answer.value for node, answer in listening.items() if not answer.error}
    targets = {
        node: ({other.name: (other.address, port) for other, (port, _) in ports.items() if other != node},)
        for node in cluster.nodes
    }
    asked = {node: (*target, _PATIENCE_S, _GREETING) for node, target in targets.items()}
    ranges = {node.name: allowed for node, (_, allowed) in ports.items()}

    def judge(node: Node, failures: dict[str, str]) -> tuple[bool, str]:
        (mine,) = targets[node]
        texts = [
            f"no connection from {node.name} to {other} at port {mine[other][1]} ({reason}): open the TCP ports "
            f"{ranges[other]} between these two nodes"
            for other, reason in failures.items()
        ]
        return not texts, "; ".join(texts) or "every other node can be reached"

    deaf = {node: answer for node, answer in listening.items() if answer.error}
    return judged(CHECK, deaf, judge) + judged(CHECK, cluster.ask_each(reach, asked), judge)
