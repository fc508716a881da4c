"""Paths that hold in every process of a run: Ray's have working folders of their own."""

from __future__ import annotations

from pathlib import Path

from crlft_ray.config.schema import Config
from crlft_ray.model.find import everywhere


def with_absolute_paths(config: Config) -> Config:
    """The config with `output`, `data.shards` and a `model` that is a folder as absolute paths; URIs stay."""
    data = config.data
    if data.shards:
        data = data.model_copy(update={"shards": _absolute(data.shards)})
    return config.model_copy(
        update={"output": _absolute(config.output), "data": data, "model": everywhere(config.model)}
    )


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
