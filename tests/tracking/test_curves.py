from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from crlft_ray.tracking import Record, plot_curves


def _records() -> list[Record]:
    records = []
    for step in range(1, 101):
        metrics = {"train/loss": 3 / step, "train/loss/expert": 2 / step, "train/loss/mixed": 4 / step}
        metrics |= {"train/lr": 1e-4, "train/grad_norm": math.inf if step == 50 else 1.0, "train/tokens_per_s": 300.0}
        metrics |= {"train/weight_share/expert": 0.9, "train/weight_share/mixed": 0.1}
        records.append(Record(step, step, metrics))
    records.append(Record(100, 100, {"heldout/expert/as_expert": 2.0, "heldout/mixed/as_expert": math.nan}))
    return records


def test_a_picture_for_each_kind_of_metric(tmp_path: Path) -> None:
    files = plot_curves(_records(), tmp_path / "plots")
    names = ["loss.png", "learning_rate.png", "speed.png", "weight_share.png", "heldout.png"]
    assert [file.name for file in files] == names
    for file in files:
        with Image.open(file) as image:
            assert image.width >= 900
            colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
            assert colours is not None
            assert len(colours) > 20
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(names)


def test_curves_change_the_picture(tmp_path: Path) -> None:
    one = plot_curves(_records(), tmp_path / "a")
    other = plot_curves([*_records(), Record(101, 1, {"train/loss": 9.0})], tmp_path / "b")
    assert one[0].read_bytes() != other[0].read_bytes()
    assert one[3].read_bytes() == other[3].read_bytes()


def test_what_was_not_measured_gives_no_picture(tmp_path: Path) -> None:
    assert plot_curves([], tmp_path) == []
    files = plot_curves([Record(1, 1, {"train/loss": math.nan}), Record(1, 1, {"system/cpu": 1.0})], tmp_path)
    assert [file.name for file in files] == ["loss.png"]
