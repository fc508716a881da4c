"""Do the packages that workers need start at all? One may be there and lack a library of the system."""

from __future__ import annotations

import importlib
import importlib.metadata

from crlft_ray.diagnosis.finding import Finding, judged
from crlft_ray.diagnosis.nodes import START_S, Cluster, Node

CHECK = "imports"
_PACKAGES = ("torch", "pyarrow", "transformers", "deepspeed")


def import_all(packages: tuple[str, ...]) -> list[str]:
    """Imports what is installed; one line for each that fails."""
    failures = []
    for name in packages:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # Said by the check of versions.
            continue
        try:
            importlib.import_module(name)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            failures.append(f"{name} cannot be imported ({type(error).__name__}: {lines[0][:200]})")
    return failures


def check_imports(cluster: Cluster) -> list[Finding]:
    """Imports torch, pyarrow, transformers and DeepSpeed on every node."""

    def judge(node: Node, failures: list[str]) -> tuple[bool, str]:
        if failures:
            return False, f"{'; '.join(failures)}: install it anew there, or the system's library that it names"
        return True, "can be imported"

    return judged(CHECK, cluster.ask(import_all, _PACKAGES, seconds=3 * START_S), judge)
