"""Does every node see the files that a run reads?"""

from __future__ import annotations

from collections.abc import Mapping

from crlft_ray.assets import ASSET_NAMES
from crlft_ray.config import Config
from crlft_ray.conversations.files import find_files
from crlft_ray.diagnosis.finding import DRIVER, Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
from crlft_ray.errors import UserError
from crlft_ray.storage import Place

CHECK = "paths"


def absent(paths: Mapping[str, Place]) -> list[str]:
    """The keys of those that are not there, or cannot be looked for, on this node."""
    missing = []
    for key, place in paths.items():
        try:
            there = place.exists()
        except OSError:
            there = False
        if not there:
            missing.append(key)
    return missing


def check_inputs(cluster: Cluster) -> list[Finding]:
    """The model and the sources of the config: what the driver cannot read, and what it sees and a node does not."""
    if cluster.config is None:
        return []
    paths, findings = named_paths(cluster.config)
    return findings + check_paths(cluster, paths)


def named_paths(config: Config) -> tuple[dict[str, Place], list[Finding]]:
    """The model and the sources, where they are files or folders that are there, not fetched names, hub ids and
    patterns; and what is wrong with them at the driver."""
    paths: dict[str, Place] = {}
    findings: list[Finding] = []
    named = {"model": config.model}
    named |= {f"data.sources.{number}.path": source.path for number, source in enumerate(config.data.sources)}
    for number, (key, path) in enumerate(named.items(), start=-1):
        if path in ASSET_NAMES:
            continue
        try:
            if key != "model":
                find_files(number, path)
            place = Place.of(path)
            if place.exists():
                paths[key] = place
        except (OSError, UserError) as error:
            text = " ".join(str(error).split())
            findings.append(Finding(CHECK, DRIVER, False, text if text.startswith(key) else f"{key}: {text}"))
    return paths, findings


def check_paths(cluster: Cluster, paths: Mapping[str, Place]) -> list[Finding]:
    """Compares every node with the driver.

    Args:
        paths: config key → file or folder that the driver has seen there.
    """
    if not paths:
        return []

    def judge(node: Node, missing: list[str]) -> tuple[bool, str]:
        problems = [f"{key}: {paths[key]} is at the driver, but not there" for key in missing]
        return not missing, "; ".join(problems) or f"sees {', '.join(map(str, paths.values()))}"

    return judged(CHECK, cluster.ask(absent, dict(paths), seconds=90), judge)
