"""What a config names, looked at from the driver."""

from __future__ import annotations

from pathlib import Path

from crlft_ray.config import validate
from crlft_ray.diagnosis.paths import named_paths
from tests.synthetic import raw_config, write_conversations


def _named(model: Path | str, *sources: str) -> tuple[set[str], dict[str, str]]:
    raw = raw_config(model, "runs/one", "")
    both = {"field": "rating", "ranges": {"expert": [8, 10], "mixed": [1, 7]}}
    raw["data"]["sources"] = [{"path": path, "class": both} for path in sources]
    paths, findings = named_paths(validate(raw, "test"))
    assert not any(finding.ok for finding in findings)
    return set(paths), {finding.text.partition(":")[0]: finding.text for finding in findings}


def test_what_is_there(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_conversations(tmp_path / "rows.jsonl", 3)
    assert _named(tiny_model, str(rows), "chitchat", f"{tmp_path}/*.jsonl") == ({"model", "data.sources.0.path"}, {})
    assert _named("someone/a-model", str(rows)) == ({"data.sources.0.path"}, {})


def test_what_is_missing_or_cannot_be_opened_is_a_finding(tiny_model: Path, tmp_path: Path) -> None:
    """And no reason to stop looking at the rest."""
    (tmp_path / "empty.jsonl").touch()
    paths, found = _named("nosuch://bucket/model", f"{tmp_path}/none.jsonl", f"{tmp_path}/empty.jsonl", "nosuch://b/x")
    assert paths == set()
    assert "does not exist" in found["data.sources.0.path"]
    assert "is empty" in found["data.sources.1.path"]
    assert "cannot be opened" in found["data.sources.2.path"]
    assert "cannot be opened" in found["model"]
