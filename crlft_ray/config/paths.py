"""Paths that hold in every process of a run: Ray's have working folders of their own."""

from __future__ import annotations

from pathlib import Path

from crlft_ray.assets import asset_path
from crlft_ray.config.schema import Config


def with_absolute_paths(config: Config) -> Config:
    """The config with `output`, `data.shards` and a `model` that is a folder as absolute paths; URIs stay."""
    data = config.data
    if data.shards:
        data = data.model_copy(update={"shards": _absolute(data.shards)})
    model = absolute_model(config.model)
    return config.model_copy(update={"output": _absolute(config.output), "data": data, "model": model})


def absolute_model(model: str) -> str:
    """What means the same model in any process of a cluster, whose working folders differ: a folder is made absolute,
    all else is as it was."""
    return _absolute(model) if asset_path(model) is None and Path(model).expanduser().is_dir() else model


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
