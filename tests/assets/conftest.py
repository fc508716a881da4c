"""Real wheels: those of the assets, in the user's own cache, and small ones built by a test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from crlft_ray.assets import ASSET_NAMES, fetch
from crlft_ray.assets.asset import Asset

MakeAsset = Callable[[str], Asset]


@pytest.fixture(scope="session")
def assets() -> dict[str, Path]:
    """All assets, from the default cache: downloaded once on a machine, not once a test."""
    return fetch(ASSET_NAMES)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip finds packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, package: str, version: str, files: dict[str, str]) -> Path:
    """A valid wheel with these files."""
    stem = f"{package.replace('-', '_')}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    meta = f"{stem}.dist-info"
    with ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    return wheel


def build_text(wheel: ZipFile, folder: Path) -> None:
    """Builds an asset of one file."""
    (folder / "text.txt").write_bytes(wheel.read("tiny/text.txt"))


@pytest.fixture
def tiny(index: Path) -> Asset:
    """An asset whose wheel lies in `index`."""
    wheel = write_wheel(index, "tiny-thing", "1.2", {"tiny/text.txt": "hello", "tiny/other.txt": "not wanted"})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Asset("tiny", "tiny-thing", "1.2", digest, megabytes=1, recipe=1, build=build_text)
