"""Where a model lies on this machine: fetched names, folders, storage, the registry and the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crlft_ray.assets import asset_path, cache_folder
from crlft_ray.errors import UserError, reason_of
from crlft_ray.scratch import Scratch
from crlft_ray.storage import Place

REGISTRY = "models:/"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def model_folder(model: str) -> Path:
    """A local folder with the model; what is elsewhere is brought into the cache, once a machine.

    Args:
        model: a fetched name, a folder, a folder on storage (s3://…), models:/NAME@ALIAS or models:/NAME/VERSION of
            the registry that MLFLOW_TRACKING_URI names, or a hub id.

    Raises:
        UserError: there is none.
    """
    fetched = asset_path(model)
    if fetched:
        return fetched
    if model.startswith(REGISTRY):
        from crlft_ray.registry.registry import version_folder

        return version_folder(model)
    if "://" in model:
        return _from_storage(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"{model}: no model in this folder (no config.json)")
        return path
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserError(f"{model}: no such model folder")
    return _from_hub(model)


def without_weights(model: str) -> Path:
    """A local folder with the config and the tokenizer of a model on storage: what is looked at before it is trained.

    Raises:
        UserError: there is none.
    """
    place = Place.of(model)

    def bring(folder: Path) -> None:
        folder.mkdir()
        for child in place.children():
            if not child.is_folder() and not child.name.endswith(_WEIGHTS):
                (folder / child.name).write_bytes(child.read_bytes())

    return cached(f"{_cache_name(place)}-without-weights", bring)


def _from_storage(model: str) -> Path:
    place = Place.of(model)
    return cached(_cache_name(place), place.copy_to_local)


def _cache_name(place: Place) -> str:
    """Of a model on storage, as it is now."""
    if not (place / "config.json").exists():
        raise UserError(f"{place}: no model in this folder (no config.json)")
    changed = max(child.info().mtime_ns or 0 for child in place.children())
    return f"{place.filesystem.type_name}-{place.path.replace('/', '-')}-{changed}"


def cached(name: str, bring: Callable[[Path], object]) -> Path:
    """A folder of the cache, made by `bring(folder)` if it is not there; whole or not at all."""
    target = cache_folder() / "models" / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Scratch(beside=target.parent)
    try:
        bring(scratch.path / "model")
        (scratch.path / "model").rename(target)
    except OSError:
        # Another process may have been quicker.
        if not target.is_dir():
            raise
    finally:
        scratch.remove()
    return target


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{model}: no folder, no fetched name, and the hub does not give it: {reason_of(error)}"
        ) from None
