"""JSON lists are read item by item, exactly as `json.loads` reads them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.conversations import json_items as module
from crlft_ray.conversations.json_items import JsonItemsError, json_items
from crlft_ray.errors import UserError
from tests.conversations.reading import values

documents = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=6,
)


class Dripping(io.BytesIO):
    """Gives at most `most` bytes at a time, as a network does."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._most)


@given(documents, st.integers(1, 60), st.booleans(), st.booleans(), st.sampled_from([None, 1]))
def test_any_list_in_drips_of_any_size(items: Any, most: int, ascii: bool, bom: bool, indent: int | None) -> None:
    text = json.dumps(items, ensure_ascii=ascii, indent=indent)
    content = text.encode("utf-8-sig" if bom else "utf-8", "surrogatepass")
    assert list(json_items(Dripping(content, most))) == items


@given(documents, st.integers(1, 60), st.data())
def test_a_list_that_is_cut_off_is_an_error(items: Any, most: int, data: st.DataObject) -> None:
    content = json.dumps(items).encode()
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(JsonItemsError):
        list(json_items(Dripping(content[:cut], most)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"a": 1}, {"a": }, {"a": 3}]', "item 2: Expecting value"),
        (b'[{"a": 1} {"a": 2}]', "expected ',' or ']' after item 1"),
        (b'[{"a": 1}] x', "something follows the list"),
        (b"[1,]", "item 2"),
        (b'{"conversations": []}', "must hold a list of conversations"),
        (b" ", "must hold a list of conversations"),
        (b"[]", "list of conversations is empty"),
        (b'["\xff"]', "not UTF-8"),
        (b"[" * 100_000, "item 1"),
        (b'{"a": 1}\n{"a": 2}\n', "must hold a list"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        values(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_early_mistake_is_found_without_reading_on() -> None:
    stream = io.BytesIO(b'[{"a" 1}, ' + b'"filler", ' * 1_000_000 + b"1]")
    with pytest.raises(JsonItemsError, match="item 1: Expecting ':'"):
        list(json_items(stream))
    assert stream.tell() <= 2 * module._CHUNK


def test_half_of_a_surrogate_pair_stays_visible(tmp_path: Path) -> None:
    """It must reach the check that rejects the row, not be replaced on the way."""
    path = tmp_path / "rows.json"
    path.write_text(r'["\ud800", "\ud83d\ude00"]')
    assert values(path) == ["\ud800", "😀"]
