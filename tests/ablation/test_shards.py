"""The project's own pipeline takes the world's files and model as they are, every row of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from crlft_ray.ablation.model import TEMPLATE, Size, write_model
from crlft_ray.ablation.world import World
from crlft_ray.config import load_config
from crlft_ray.shards.prepare import prepare
from tests.runs import write_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_prepare_takes_every_row(tmp_path: Path) -> None:
    world = World(seed=6, conversations=3000, expert_share=0.1, middle_share=0.2, mislabelled=0.1)
    written = world.write(tmp_path / "data")
    model = write_model(
        tmp_path / "model", world.samples(), Size(hidden=32, layers=1, heads=2, intermediate=48), seed=0
    )
    raw = {
        "model": str(model),
        "output": str(tmp_path / "run"),
        "template": TEMPLATE,
        "classes": {tag: {"condition": tag} for tag in written},
        "infer_as": "expert",
        "data": {
            "sources": [{"path": str(path), "class": tag} for tag, path in written.items()],
            "context": 128,
            "pack_tokens": 1024,
            "holdout": 0.0,
        },
    }
    manifest = prepare(load_config(write_config(tmp_path / "config.yaml", raw))).manifest
    assert (manifest.counts["rows"], manifest.counts["rejected"], manifest.counts["duplicates"]) == (3000, 0, 0)
    assert not any(manifest.counts["cleaned"].values())
    assert manifest.counts["truncated"] == 0
    tags = Counter(sample.tag for sample in world.samples())
    assert {counts.name: counts.conversations for counts in manifest.classes} == tags
