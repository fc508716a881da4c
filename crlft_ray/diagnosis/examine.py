"""`crlft doctor`: all checks of all nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crlft_ray.config import Config
from crlft_ray.diagnosis.all_reduce import check_all_reduce
from crlft_ray.diagnosis.clock import check_clock
from crlft_ray.diagnosis.compiler import check_compiler
from crlft_ray.diagnosis.disk import check_disk
from crlft_ray.diagnosis.finding import Finding
from crlft_ray.diagnosis.gpus import check_gpus
from crlft_ray.diagnosis.imports import check_imports
from crlft_ray.diagnosis.mlflow_server import check_mlflow
from crlft_ray.diagnosis.nodes import START_S, Cluster, alive_nodes, opened
from crlft_ray.diagnosis.output import check_output
from crlft_ray.diagnosis.paths import check_inputs
from crlft_ray.diagnosis.ports import check_ports
from crlft_ray.diagnosis.upload import check_upload
from crlft_ray.diagnosis.versions import check_versions


def check_network(cluster: Cluster) -> list[Finding]:
    """All-reduce only where every connection can be made: with one blocked it would hang, and could not say which."""
    ports = check_ports(cluster)
    return ports + (check_all_reduce(cluster) if all(finding.ok for finding in ports) else [])


CHECKS: tuple[Callable[[Cluster], list[Finding]], ...] = (
    check_versions,
    check_imports,
    check_compiler,
    check_gpus,
    check_network,
    check_inputs,
    check_output,
    check_mlflow,
    check_clock,
    check_disk,
)


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found."""

    nodes: list[str]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, "nodes": self.nodes, "findings": [asdict(finding) for finding in self.findings]}


def doctor(config: Config | None = None, *, address: str | None = None, runtime_env: Path | None = None) -> Diagnosis:
    """Checks every node of the cluster for what training needs, without training.

    Args:
        config: the run; without one its output, MLflow and resources are not checked.
        address: of the cluster, as `host:port`; default: as every command finds it (RAY_ADDRESS, or a local one).
        runtime_env: YAML file of `ray job submit`, whose working directory is looked at.

    Raises:
        UserError: the runtime env cannot be read, nobody answers at the address, the cluster has another Ray or Python
            version, or this machine is not part of it.
    """
    from crlft_ray.ray_session import connect

    findings = [check_upload(runtime_env)] if runtime_env else []
    connect(address=address)
    nodes = alive_nodes()
    with opened(config, nodes) as cluster:
        findings += _check_answers(cluster)
        for check in CHECKS:
            findings += check(cluster)
    return Diagnosis([node.name for node in nodes], findings)


def _check_answers(cluster: Cluster) -> list[Finding]:
    """Lets go of nodes on which no process starts: no other check would get an answer."""
    findings = []
    for node, answer in cluster.ask(_nothing, seconds=START_S).items():
        if answer.error:
            cluster.forget(node)
            text = f"Ray starts no process there ({answer.error}): see the logs in /tmp/ray/session_latest/logs there"
            findings.append(Finding("answers", node.name, False, text))
    return findings


def _nothing() -> None:
    return None
