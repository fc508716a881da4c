"""From a partitioned model to a Hugging Face folder that needs nothing of this package."""

from crlft_ray.export.folder import export_model

__all__ = ["export_model"]
