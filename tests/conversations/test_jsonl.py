"""JSONL in pieces: wherever a file is cut, it has the same lines."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.conversations.formats import RejectedRow
from crlft_ray.errors import UserError
from tests.conversations.reading import numbered, values

lines = st.sampled_from(
    ["", " ", "\t", "1", '"a"', "{}", '{"text": "line\\nfeed, é 🙂"}', "[1, 2]", "nope", '"' + "x" * 50 + '"', "{"]
)


def expected_lines(texts: list[str]) -> list[tuple[int, Any]]:
    """What each line holds, said by `json.loads` alone; None for what it cannot parse."""
    found: list[tuple[int, Any]] = []
    for number, text in enumerate(texts):
        if text.strip():
            try:
                found.append((number, json.loads(text)))
            except ValueError:
                found.append((number, None))
    return found


@given(st.lists(lines, min_size=1), st.integers(1, 80), st.booleans(), st.booleans(), st.booleans())
def test_every_cut_gives_the_same_lines(
    texts: list[str], piece_bytes: int, windows: bool, final_newline: bool, bom: bool
) -> None:
    newline = "\r\n" if windows else "\n"
    content = (newline.join(texts) + (newline if final_newline else "")).encode("utf-8-sig" if bom else "utf-8")
    if not content:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(content)
        (Path(folder) / "rows.jsonl.gz").write_bytes(gzip.compress(content))
        found = numbered(path, piece_bytes)
        packed = numbered(f"{path}.gz", piece_bytes)
    assert [(n, None if isinstance(v, RejectedRow) else v) for n, v in found] == expected_lines(texts)
    assert [(n, str(v)) for n, v in packed] == [(n, str(v)) for n, v in found]


def test_a_line_longer_than_many_pieces(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    long = "x" * (3 << 20)
    path.write_text(f'1\n"{long}"\n2\n')
    assert values(path, 1000) == [1, long, 2]
    assert values(path) == [1, long, 2]


def test_broken_lines_keep_their_number_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n"\xff"\n"ok"\n' + b"[" * 200_000 + b"\n" + b"9" * 5000)
    for piece_bytes in (1000, 70_000, 1 << 20):
        found = {number: str(value) for number, value in numbered(path, piece_bytes)}
        assert set(found) == {0, 2, 3, 4, 5, 6}
        assert found[2].startswith("is not valid JSON")
        assert found[3] == "is not UTF-8"
        assert found[5] == "is nested too deeply"
        assert "is not valid JSON" in found[6]


@pytest.mark.parametrize(("ending", "packer"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed(tmp_path: Path, ending: str, packer: Any) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    first, second = b'"one"\n' * 100_000, b'"two"\n'
    path.write_bytes(packer(first) + packer(second))
    assert values(path) == ["one"] * 100_000 + ["two"], "files of several compressed parts are one file"

    path.write_bytes(packer(first)[:-20])
    with pytest.raises(UserError, match=r"rows\.jsonl.*: damaged jsonl file"):
        values(path)
    path.write_bytes(b"this is not compressed at all")
    with pytest.raises(UserError, match="damaged jsonl file"):
        values(path)
