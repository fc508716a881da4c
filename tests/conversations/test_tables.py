"""Parquet, Arrow files and streams, folders of Hugging Face `datasets`: the rows they were written from, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from crlft_ray.conversations.files import cut, find_files
from crlft_ray.errors import UserError
from tests.conversations.reading import numbered, values
from tests.synthetic import rows

ROWS = list(rows(50))


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)


def write_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


WRITERS = [("a.parquet", write_parquet), ("a.arrow", write_arrow_file), ("a.arrow", write_arrow_stream)]


@pytest.mark.parametrize("piece_bytes", [1, 1000, 1 << 30])
@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_rows_come_in_order_from_any_pieces(tmp_path: Path, name: str, write: Any, piece_bytes: int) -> None:
    path = tmp_path / name
    write(path)
    assert numbered(path, piece_bytes) == list(enumerate(ROWS))


@pytest.mark.parametrize(("name", "write"), WRITERS[:2])
def test_files_with_an_index_are_read_in_pieces(tmp_path: Path, name: str, write: Any) -> None:
    path = tmp_path / name
    write(path)
    (file,) = find_files(0, str(path))
    assert len(cut(file, 1)) == 8, "one piece for each of 50 / 7 row groups"
    assert 1 < len(cut(file, file.size // 3)) < 8


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_damaged_files(tmp_path: Path, name: str, write: Any) -> None:
    path = tmp_path / name
    write(path)
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], content[:10], b"nonsense" * 20):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=f"{name}: damaged"):
            values(path)


def test_text_that_is_no_text(tmp_path: Path) -> None:
    """Arrow does not check that its text is UTF-8."""
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.schema([("x", pa.string())])) as writer:
        writer.write_batch(pa.record_batch([bad], ["x"]))
    with pytest.raises(UserError, match="damaged arrow file"):
        values(tmp_path / "a.arrow")


@pytest.mark.slow
def test_folders_written_by_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "one"), num_shards=3)
    assert values(tmp_path / "one") == ROWS

    DatasetDict({"train": data, "test": data.select(range(5))}).save_to_disk(str(tmp_path / "splits"))
    assert values(tmp_path / "splits" / "test") == ROWS[:5]
    with pytest.raises(UserError, match=r"several splits; name one of them: test, train"):
        values(tmp_path / "splits")
