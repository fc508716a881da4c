"""The files that describe clusters, as the tests of this folder read them."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


def load(path: Path) -> Any:
    """The only YAML document of a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pinned(package: str) -> str:
    """A package's version in constraints.txt."""
    found = re.search(rf"^{re.escape(package)}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found, f"constraints.txt does not name {package}"
    return found[1]


def image() -> str:
    """The image that all clusters use: the one that cluster/docker/README.md builds, of this version of the project."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    name = f"crlft-ray:{version[1]}"
    assert f"docker build -f cluster/docker/Dockerfile -t {name} ." in (CLUSTER / "docker/README.md").read_text()
    return name


def lint(tool: str, *files: Path) -> str:
    """What a linter of the `dev` extra has to say; empty if nothing."""
    done = subprocess.run([Path(sys.executable).parent / tool, *files], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


@cache
def is_read_by(variable: str, *packages: str) -> bool:
    """Whether the source of an installed package, or of this one, names an environment variable."""
    word = re.compile(rf"\b{variable}\b")
    found = [find_spec(package) for package in packages]
    folders = [
        ROOT / "crlft_ray",
        *(Path(path) for spec in found if spec for path in spec.submodule_search_locations or []),
    ]
    return any(word.search(file.read_text(errors="ignore")) for folder in folders for file in folder.rglob("*.py"))
