"""Will Ray take the working directory that a job brings to the cluster?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from crlft_ray.diagnosis.finding import DRIVER, Finding
from crlft_ray.errors import UserError

CHECK = "working dir"
_NAMED = 5
"""Largest entries that are named."""
_SMALL = 1e6
"""Bytes of an entry that is not worth a name."""


def check_upload(runtime_env: Path) -> Finding:
    """Adds up what `ray job submit --runtime-env FILE` would pack, from the folder that this process is in.

    Ray's limit is one of the packed size; before packing it is an upper bound, which code hardly ever comes near.

    Raises:
        UserError: the file is none, or names no local folder.
    """
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    folder, excludes = _working_dir(runtime_env)
    entries, files = _sizes(folder, excludes)
    total = sum(entries.values())
    said = f"{folder}: {total / 1e6:.1f} MB in {files} files"
    if total < GCS_STORAGE_MAX_SIZE:
        return Finding(CHECK, DRIVER, True, said)
    largest = [(name, size) for name, size in entries.most_common(_NAMED) if size > _SMALL]
    shown = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in largest)
    names = ", ".join(f"/{name}" for name, _ in largest)
    text = (
        f"{said}, and Ray takes {GCS_STORAGE_MAX_SIZE / 1e6:.0f} MB: {shown}; add what no job needs of these to "
        f"`excludes` in {runtime_env}, such as [{names}], or to .rayignore"
    )
    return Finding(CHECK, DRIVER, False, text)


def _working_dir(runtime_env: Path) -> tuple[Path, list[str]]:
    try:
        raw: Any = yaml.safe_load(runtime_env.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--runtime-env: {runtime_env} cannot be read: {reason}") from None
    named = raw.get("working_dir") if isinstance(raw, dict) else None
    if not isinstance(named, str) or "://" in named or not Path(named).is_dir():
        raise UserError(f"--runtime-env: {runtime_env} names no local folder as working_dir (it is {named!r})")
    return Path(named).absolute(), [str(pattern) for pattern in raw.get("excludes") or []]


def _sizes(folder: Path, excludes: list[str]) -> tuple[Counter[str], int]:
    """Bytes by entry of the folder, and the number of files; what Ray would leave out is left out."""
    # Ray has no public function for it, and its rules (excludes, .gitignore, .rayignore, defaults) are its own.
    from ray._private.runtime_env import packaging

    entries: Counter[str] = Counter()
    files = 0

    def add(path: Path) -> None:
        nonlocal files
        if path.is_file():
            entries[path.relative_to(folder).parts[0]] += path.stat().st_size
            files += 1

    quiet = packaging.default_logger.getChild("crlft")
    quiet.disabled = True
    packaging._dir_travel(
        folder,
        [packaging._get_excludes(folder, [*excludes, ".git", ".venv"])],
        add,
        include_gitignore=True,
        logger=quiet,
    )
    return entries, files
