"""What becomes of what earlier starts left in an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crlft_ray.config import Config, validate
from crlft_ray.training.earlier import start_over
from tests.synthetic import raw_config


def _config(output: Path, **sections: Any) -> Config:
    return validate(raw_config("model", output, "data.jsonl", **sections), "test")


def test_starting_over_leaves_the_shards_and_what_is_known_of_them(tmp_path: Path) -> None:
    kept = ["shards/manifest.json", "tracking/verified.json", "mlflow.db"]
    gone = ["checkpoints/a/state.json", "export/config.json", "config.yaml", "result.json", "evaluation/report.html",
            "tracking/metrics.jsonl", "tracking/curves/loss.png"]  # fmt: skip
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    start_over(_config(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_starting_over_where_nothing_is(tmp_path: Path) -> None:
    start_over(_config(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
