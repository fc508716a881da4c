"""A run's config: one YAML file, validated."""

from crlft_ray.config.classes import ClassSpec, CustomTemplate
from crlft_ray.config.data import ClassByField, Source
from crlft_ray.config.load import dump_config, load_config, read_config, validate
from crlft_ray.config.paths import with_absolute_paths
from crlft_ray.config.schema import Config

__all__ = [
    "ClassByField",
    "ClassSpec",
    "Config",
    "CustomTemplate",
    "Source",
    "dump_config",
    "load_config",
    "read_config",
    "validate",
    "with_absolute_paths",
]
