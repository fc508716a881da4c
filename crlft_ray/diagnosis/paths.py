"""Does every node see the files that a run reads?"""

from __future__ import annotations

from collections.abc import Mapping

from crlft_ray.assets import ASSET_NAMES
from crlft_ray.config import Config
from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import Cluster, Node
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


def named_paths(config: Config) -> dict[str, Place]:
    """The model and the sources of a config, where they are files or folders that are there; not fetched names, hub
    ids and patterns."""
    named = {"model": config.model}
    named |= {f"data.sources.{number}.path": source.path for number, source in enumerate(config.data.sources)}
    places = {key: Place.of(path) for key, path in named.items() if path not in ASSET_NAMES}
    return {key: place for key, place in places.items() if place.exists()}


def check_paths(cluster: Cluster, paths: Mapping[str, Place]) -> list[Finding]:
    """Compares every node with the driver, where they are.

    Args:
        paths: config key → file or folder that the driver has seen there.
    """
    if not paths:
        return []

    def judge(node: Node, missing: list[str]) -> tuple[bool, str]:
        problems = [f"{key}: {paths[key]} is at the driver, but not there" for key in missing]
        return not missing, "; ".join(problems) or f"sees {', '.join(map(str, paths.values()))}"

    return judged(CHECK, cluster.ask(absent, dict(paths), seconds=90), judge)
