"""A run's config: one YAML file, validated."""

from crlft_ray.config.load import dump_config, load_config, validate
from crlft_ray.config.schema import ClassByField, ClassSpec, Config, CustomTemplate, Source

__all__ = ["ClassByField", "ClassSpec", "Config", "CustomTemplate", "Source", "dump_config", "load_config", "validate"]
