"""What Ray Train is not to start, or in another way."""

from __future__ import annotations

from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from crlft_ray.training.trainer import Trainer


def test_nobody_deals_out_datasets_and_the_cleaner_is_ours() -> None:
    """The list is Ray's own: another name in it, and its actors would be back unnoticed."""
    usual, ours = (
        [
            type(callback).__name__
            for callback in made(print, scaling_config=ScalingConfig())._create_default_callbacks()
        ]
        for made in (TorchTrainer, Trainer)
    )
    assert {"DatasetsCallback", "PlacementGroupCleanerCallback"} <= set(usual)
    theirs = {"PlacementGroupCleanerCallback": "CleanerCallback"}
    assert ours == [theirs.get(name, name) for name in usual if name != "DatasetsCallback"]
