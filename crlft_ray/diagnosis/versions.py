"""Has every node the packages that the driver has, in the same versions?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import START_S, Cluster, Node

CHECK = "versions"
PACKAGES = ("ray", "torch", "deepspeed", "transformers", "pyarrow", "mlflow", "crlft_ray")


def installed_versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    """The versions of python and of packages in this process; None for what is not there. Takes milliseconds."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        versions[name] = None
        if importlib.util.find_spec(name) is not None:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                # A folder that Ray brought to the node, as a job's working directory is.
                versions[name] = getattr(importlib.import_module(name), "__version__", "unknown")
    return versions


def check_versions(cluster: Cluster) -> list[Finding]:
    """Compares every node with this process."""
    here = installed_versions(PACKAGES)

    def judge(node: Node, there: dict[str, str | None]) -> tuple[bool, str]:
        problems = [text for name in here if (text := _difference(name, here[name], there[name]))]
        same = ", ".join(f"{name} {version}" for name, version in there.items())
        return not problems, "; ".join(problems) or same

    return judged(CHECK, cluster.ask(installed_versions, PACKAGES, seconds=START_S), judge)


def _difference(name: str, here: str | None, there: str | None) -> str | None:
    if there is None:
        wanted = f"=={_public(here)}" if here else ""
        return f"{name} is not installed: pip install '{_distribution(name)}{wanted}' there"
    if here is None:
        return f"{name} {there} is installed, but not at the driver: pip install '{_distribution(name)}=={there}' here"
    # torch's local part, such as +cu128, names what it computes on: nodes without GPUs may have another.
    if _public(here) == _public(there):
        return None
    mend = "use the same Python" if name == "python" else f"pip install '{_distribution(name)}=={_public(here)}' there"
    return f"{name} is {there}, but {here} at the driver: {mend}"


def _public(version: str | None) -> str:
    return (version or "").partition("+")[0]


def _distribution(name: str) -> str:
    return name.replace("_", "-")
