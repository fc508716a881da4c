"""Ray's trainer without what is not used here, and with what needs no dashboard."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer


class Trainer(TorchTrainer):  # type: ignore[misc]
    """Workers read their packs themselves, so that nobody has to deal out datasets.

    Ray Train starts an actor for that even where there are none, just when the workers import what they need.
    """

    def _create_default_callbacks(self) -> list[Any]:
        kept = []
        for callback in super()._create_default_callbacks():
            name = type(callback).__name__
            if name == "PlacementGroupCleanerCallback":
                from crlft_ray.training.cleaner import CleanerCallback

                kept.append(CleanerCallback())
            elif name != "DatasetsCallback":
                kept.append(callback)
        return kept
