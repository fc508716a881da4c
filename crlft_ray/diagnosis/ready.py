"""What is looked at on every node before anything is started."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node, alive_nodes, opened
from crlft_ray.diagnosis.paths import check_paths
from crlft_ray.diagnosis.versions import check_versions
from crlft_ray.errors import UserError
from crlft_ray.storage import Place

log = logging.getLogger(__name__)

_STAGING_S = 6 * 3600.0


def refuse_unready(
    paths: Mapping[str, Place], model: str | None = None, takes: Mapping[str, float] | None = None
) -> None:
    """Compares the nodes with the driver, and brings the model to them; Ray is connected.

    A cluster of one node has nothing to compare.

    Args:
        paths: config key → file or folder that every node has to see.
        model: brought to every node that `takes` (Ray resources of a worker) fit on, once a node.

    Raises:
        UserError: names every node that lacks a package, a path or the model, or has another version.
    """
    nodes = alive_nodes()
    findings: list[Finding] = []
    if len(nodes) > 1:
        with opened(None, nodes) as cluster:
            findings = check_versions(cluster) + check_paths(cluster, paths)
            if model is not None and all(finding.ok for finding in findings):
                findings += _staged(cluster, model, takes or {})
    # An autoscaling or a dying cluster: a node that went away meanwhile takes no part.
    left = {node.name for node in alive_nodes()}
    wrong = [finding for finding in findings if not finding.ok and finding.node in left]
    if wrong:
        lines = "\n".join(f"  {finding.node}: {finding.text}" for finding in wrong)
        advice = ""
        if any(finding.check == "paths" for finding in wrong):
            advice = "\nfiles must be where every node sees them: a shared folder, or a URI such as s3://bucket/folder"
        raise UserError(f"the cluster is not ready; `crlft doctor` checks the rest as well:\n{lines}{advice}")


def stage(model: str) -> float:
    """Brings a model to this node, if it is not there; returns the seconds that it took."""
    from crlft_ray.model.find import model_folder

    began = time.perf_counter()
    model_folder(model)
    return time.perf_counter() - began


def _staged(cluster: Cluster, model: str, takes: Mapping[str, float]) -> list[Finding]:
    asked = {node: (model,) for node in cluster.nodes if _fits(node, takes)}
    answers = cluster.ask_each(stage, asked, seconds=_STAGING_S)
    taken = {node.name: answer.value for node, answer in answers.items() if answer.error is None}
    if taken:
        each = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in taken.items())
        log.info("the model is on %d node(s): %s", len(taken), each)
    return judged("model", answers, lambda node, seconds: (True, f"{seconds:.1f} s"))


def _fits(node: Node, takes: Mapping[str, float]) -> bool:
    return all(node.resources.get(name, 0.0) >= amount for name, amount in takes.items())
