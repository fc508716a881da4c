"""What begins before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from crlft_ray.shards.stream import started


def test_it_begins_at_once_and_gives_the_same() -> None:
    began, ended = Event(), Event()

    def items() -> Iterator[int]:
        began.set()
        try:
            yield from range(3)
        finally:
            ended.set()

    made = started(items())
    assert began.wait(60)
    assert next(made) == 0
    assert not ended.is_set()
    assert list(made) == [1, 2]
    assert ended.is_set()
    assert list(started(iter(()))) == []


def test_its_error_comes_with_the_first() -> None:
    made = started(1 // divisor for divisor in (0, 1))
    with pytest.raises(ZeroDivisionError):
        next(made)
