"""A study with a remote output goes on wherever its driver runs next."""

from __future__ import annotations

from pathlib import Path

from crlft_ray.tuning.journal import Journal
from crlft_ray.tuning.mirror import mirrored


def journal_of(folder: Path) -> Journal:
    return Journal(folder / "study" / "trials.jsonl")


def test_another_node_finds_what_one_has_left(tmp_path: Path) -> None:
    output = f"file://{tmp_path}/output"
    one, two = tmp_path / "node one", tmp_path / "node two"
    with mirrored(one, output):
        journal_of(one).started("000", {"a": 1})
        (one / "run.json").write_text("{}")
    with mirrored(two, output):
        assert list(journal_of(two).trials()) == ["000"]
        assert (two / "run.json").read_text() == "{}"
        journal_of(two).started("001", {"a": 2})
    # Back on the first node, whose own memory is the older one.
    with mirrored(one, output):
        assert list(journal_of(one).trials()) == ["000", "001"]
    # What has not come to the output yet is not lost.
    journal_of(one).started("002", {"a": 3})
    with mirrored(one, output):
        assert len(journal_of(one).trials()) == 3


def test_a_local_output_has_it_already(tmp_path: Path) -> None:
    with mirrored(tmp_path / "output" / "tracking", str(tmp_path / "output")):
        journal_of(tmp_path / "output" / "tracking").started("000", {})
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["tracking"]
