"""Which files a path, a glob or a folder means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crlft_ray.conversations.files import find_files
from crlft_ray.errors import UserError
from tests.conversations.reading import values

TREE = [
    "a.jsonl", "b.jsonl", "c.json", "sub/a.jsonl", "sub/deep/a.jsonl", "sub/xa.jsonl", "other/part-1.jsonl",
    "other/part-2.jsonl", "other/part-x.jsonl", "we[i]rd.jsonl",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    return tmp_path


def found(root: Path, pattern: str) -> list[str]:
    return [os.path.relpath(file.place.path, root) for file in find_files(0, f"{root}/{pattern}")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.jsonl", ["a.jsonl"]),
        ("*.jsonl", ["a.jsonl", "b.jsonl", "we[i]rd.jsonl"]),
        ("?.json*", ["a.jsonl", "b.jsonl", "c.json"]),
        ("*/a.jsonl", ["sub/a.jsonl"]),
        ("**/a.jsonl", ["a.jsonl", "sub/a.jsonl", "sub/deep/a.jsonl"]),
        ("sub/**", ["sub/a.jsonl", "sub/deep/a.jsonl", "sub/xa.jsonl"]),
        ("s*/**/a.jsonl", ["sub/a.jsonl", "sub/deep/a.jsonl"]),
        ("other/part-[12].jsonl", ["other/part-1.jsonl", "other/part-2.jsonl"]),
        ("other/part-[0-9].jsonl", ["other/part-1.jsonl", "other/part-2.jsonl"]),
        ("other/part-[!0-9].jsonl", ["other/part-x.jsonl"]),
        ("we[i]rd.jsonl", ["we[i]rd.jsonl"]),
        ("sub", ["sub/a.jsonl", "sub/xa.jsonl"]),
    ],
)
def test_patterns(tree: Path, pattern: str, expected: list[str]) -> None:
    assert found(tree, pattern) == expected


def test_the_pattern_agrees_with_pathlib(tree: Path) -> None:
    for pattern in ("*", "*.jsonl", "*/*", "**/*.jsonl", "o*/p*-?.jsonl", "**/a.jsonl"):
        expected = sorted(str(path.relative_to(tree)) for path in tree.glob(pattern) if path.is_file())
        assert found(tree, pattern) == expected, pattern


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("none.jsonl", "data.sources.0.path: .*none.jsonl does not exist"),
        ("none*.jsonl", "data.sources.0.path: no file matches .*none"),
        ("none/*.jsonl", "no file matches"),
    ],
)
def test_nothing_there(tree: Path, pattern: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        found(tree, pattern)


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.jsonl"):
        find_files(0, str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes\.txt: unknown file type"):
        find_files(0, str(tmp_path / "notes.txt"))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty\.jsonl: is empty"):
        find_files(0, str(tmp_path / "empty.jsonl"))


def test_a_pattern_does_not_look_below_it(tmp_path: Path) -> None:
    """What lies there may not be listed, like a volume's lost+found, or like a name that is no UTF-8."""
    (tmp_path / "a.jsonl").write_text("1\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / os.fsdecode(b"\xff.jsonl")).write_text("1\n")
    assert found(tmp_path, "*.jsonl") == ["a.jsonl"]


@pytest.mark.parametrize("name", ["rows.parquet.gz", "rows.arrow.zst"])
def test_what_is_read_in_parts_is_not_compressed_as_a_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{name}: (parquet|arrow) is not read inside (gzip|zstd); unpack the file"):
        find_files(0, str(tmp_path / name))


def test_a_relative_path_and_a_home_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree / "sub"))
    assert [file.place.path for file in find_files(0, "sub/../a.jsonl")] == [f"{tree}/sub/../a.jsonl"]
    assert [file.place.path for file in find_files(0, "~/*.jsonl")] == [f"{tree}/sub/a.jsonl", f"{tree}/sub/xa.jsonl"]


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(name))
    assert values(tmp_path) == ["a", "b", "c"]
