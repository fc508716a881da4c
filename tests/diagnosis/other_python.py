"""A Python environment that is this one, but for a package that is missing and one of another version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path


def make_python(folder: Path, *, without: str, other: str, version: str) -> Path:
    """A virtual environment of links to what is installed here; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (target,) = folder.glob("lib/python*/site-packages")
    metadata = f"{other}-{distribution(other).version}.dist-info"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name == metadata:
            changed = target / f"{other}-{version}.dist-info"
            shutil.copytree(entry, changed)
            lines = (changed / "METADATA").read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [f"Version: {version}\n" if line.startswith("Version: ") else line for line in lines]
            (changed / "METADATA").write_text("".join(lines), encoding="utf-8")
        elif entry.name != without and not entry.name.startswith(f"{without}-") and entry.suffix != ".pth":
            (target / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def path_without_compiler(folder: Path) -> str:
    """A PATH on which there is ninja and what shells need, but no compiler."""
    folder.mkdir()
    for name in ("bash", "sh", "env", "uname", "ldconfig", "which", "hostname", "unshare", "ip", "mount", "ninja"):
        found = shutil.which(name)
        assert found or name == "ldconfig", name
        if found:
            (folder / name).symlink_to(found)
    return str(folder)
