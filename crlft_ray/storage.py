"""Paths on any storage that pyarrow knows: a local folder, s3://, gs://, hdfs://."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from crlft_ray.errors import UserError

T = TypeVar("T")
_PATIENCE_S = 600.0


def beneath(path: str, name: str) -> str:
    """A path in a folder, as text; a URI keeps what stands behind its question mark."""
    folder, mark, options = path.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{options}"


@dataclass(frozen=True)
class Place:
    """A file or folder on a filesystem. Pickles, so tasks on other nodes can use it."""

    filesystem: Any
    """A `pyarrow.fs.FileSystem`."""
    path: str
    options: str = ""
    """What stands behind the question mark of its URI, such as region=eu-west-1."""

    @classmethod
    def of(cls, path: str | Path) -> Place:
        """From a local path or a URI such as s3://bucket/folder?region=…; credentials come from the environment."""
        text = str(path)
        if "://" not in text:
            return cls(fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        try:
            filesystem, inside = fs.FileSystem.from_uri(text)
        except (ValueError, OSError) as error:
            raise UserError(f"{text.partition('?')[0]}: this storage cannot be opened: {error}") from None
        return cls(filesystem, inside, text.partition("?")[2])

    def at(self, path: str) -> Place:
        """Another path on the same filesystem."""
        return replace(self, path=path)

    def __truediv__(self, name: str) -> Place:
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        """What `of` takes; without credentials."""
        if self.is_local:
            return self.path
        return f"{self.filesystem.type_name}://{self.path}{'?' * bool(self.options)}{self.options}"

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Place:
        return self.at(self.path.rstrip("/").rpartition("/")[0])

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def info(self) -> Any:
        """`pyarrow.fs.FileInfo` (type, size, mtime_ns)."""
        return self.filesystem.get_file_info(self.path)

    def exists(self) -> bool:
        return bool(self.info().type != fs.FileType.NotFound)

    def is_folder(self) -> bool:
        return bool(self.info().type == fs.FileType.Directory)

    def make_folder(self) -> Place:
        self.filesystem.create_dir(self.path, recursive=True)
        return self

    def remove(self) -> None:
        """Removes a file or a folder with all it holds; nothing there is fine."""
        kind = self.info().type
        if kind == fs.FileType.Directory:
            self.filesystem.delete_dir(self.path)
        elif kind == fs.FileType.File:
            self.filesystem.delete_file(self.path)

    def move_to(self, target: Place) -> None:
        """Renames; on a local disk in one step."""
        self.filesystem.move(self.path, target.path)

    def replace_with(self, folder: Place, last: str) -> None:
        """Puts `folder` in this one's place.

        On a local disk what was there before is put aside first and removed at the end. Object stores cannot rename
        folders: files are moved one by one, and the one named `last`, which makes the folder valid, after the others.
        """
        if self.is_local:
            aside = self.at(f"{self.path}.{os.getpid()}.old")
            if self.exists():
                self.move_to(aside)
            folder.move_to(self)
            aside.remove()
            return
        (self / last).remove()
        self.remove()
        for file in sorted(folder.children(), key=lambda file: file.name == last):
            file.move_to(self / file.name)
        folder.remove()

    def children(self) -> list[Place]:
        """What a folder holds, by name."""
        infos = self.filesystem.get_file_info(fs.FileSelector(self.path))
        return sorted((self.at(info.path) for info in infos), key=lambda place: place.path)

    def read_bytes(self) -> bytes:
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def read_text(self) -> str:
        return self.read_bytes().decode("utf-8")

    def write_bytes(self, content: bytes) -> None:
        """Writes to a temporary name first, so that no half-written file is ever seen."""
        self.write_parts([content])

    def write_parts(self, parts: Iterable[bytes]) -> None:
        """As `write_bytes`, of content that need not be in memory as a whole."""
        target = self.at(f"{self.path}.{os.getpid()}.part")
        with target.filesystem.open_output_stream(target.path) as stream:
            for part in parts:
                stream.write(part)
        target.move_to(self)

    def copy_from_local(self, folder: Path) -> None:
        """Copies a local folder here."""
        fs.copy_files(str(folder), self.path, destination_filesystem=self.filesystem)

    def copy_to_local(self, folder: Path) -> None:
        """Copies this folder to a local one, which is made."""
        # An object store has files alone, and pyarrow makes no folder for those at the top.
        folder.mkdir(parents=True, exist_ok=True)
        fs.copy_files(self.path, str(folder), source_filesystem=self.filesystem)

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode("utf-8"))


def patiently(place: Place, call: Callable[[], T], patience_s: float = _PATIENCE_S) -> T:
    """What `call` returns; it is called again while the store that `place` is on does not answer: that costs time, not
    the run. What is missing there, and any error of a local disk, is raised at once."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except OSError as error:
            if place.is_local or isinstance(error, FileNotFoundError) or time.monotonic() > deadline:
                raise
            time.sleep(1.0)
