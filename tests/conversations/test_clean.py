"""Cleaning, classes and identities."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.config import ClassByField
from crlft_ray.conversations import Conversation, Turn
from crlft_ray.conversations.classify import class_of
from crlft_ray.conversations.clean import SHORTEST, CleanedRow, clean
from crlft_ray.conversations.formats import RejectedRow

LONG = "a long enough text"


def turns(roles: str, text: str = LONG, weight: float = 1.0) -> list[Turn]:
    """u and a for a user's and an assistant's message, U and A for an empty one."""
    names = {"u": "user", "a": "assistant"}
    return [Turn(names[role.lower()], "" if role.isupper() else text, weight) for role in roles]


@pytest.mark.parametrize(
    ("roles", "kept"),
    [
        ("ua", "ua"), ("uaua", "uaua"), ("aua", "ua"), ("uau", "ua"), ("auau", "ua"), ("Uua", "ua"), ("uaU", "ua"),
        ("uaUAua", "uaua"), ("aAua", "ua"), ("uaA", "ua"),
    ],
)  # fmt: skip
def test_what_is_kept(roles: str, kept: str) -> None:
    assert clean(turns(roles)) == tuple(turns(kept))


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        ("", "empty"), ("u", "empty"), ("a", "empty"), ("UA", "empty"), ("au", "empty"), ("uA", "empty"),
        ("uu", "not_alternating"), ("uauu", "not_alternating"),
        ("uaa", "not_alternating"), ("uuaa", "not_alternating"), ("aaua", "not_alternating"),
        ("uAua", "not_alternating"), ("Ua" "a" "ua", "not_alternating"),
    ],
)  # fmt: skip
def test_what_is_left_out(roles: str, kind: str) -> None:
    with pytest.raises(CleanedRow, match=f"^{kind}$"):
        clean(turns(roles))


def test_short_conversations() -> None:
    assert clean([Turn("user", "u"), Turn("assistant", "a" * (SHORTEST - 1))])
    with pytest.raises(CleanedRow, match="short"):
        clean([Turn("user", "u"), Turn("assistant", "a" * (SHORTEST - 2))])


def test_conversations_that_teach_nothing() -> None:
    with pytest.raises(CleanedRow, match="nothing_learned"):
        clean(turns("uaua", weight=0.0))
    assert clean([*turns("ua", weight=0.0), *turns("ua")])


@given(st.text("uaUA", max_size=12))
def test_what_is_kept_alternates_and_ends_with_an_answer(roles: str) -> None:
    try:
        kept = clean(turns(roles))
    except CleanedRow:
        return
    assert "".join(turn.role[0] for turn in kept) == "ua" * (len(kept) // 2)
    assert len(kept) % 2 == 0
    assert all(turn.content for turn in kept)


def test_a_constant_class() -> None:
    assert class_of({}, "expert") == "expert"


MAP = ClassByField(field="meta.source", map={"gpt4": "expert", "3": "mixed", "true": "mixed"})
RANGES = ClassByField(field="rating", ranges={"expert": (8, 10), "mixed": (1, 7.5)})


@pytest.mark.parametrize(
    ("row", "rule", "expected"),
    [
        ({"meta": {"source": "gpt4"}}, MAP, "expert"),
        ({"meta": {"source": 3}}, MAP, "mixed"),
        ({"meta": {"source": True}}, MAP, "mixed"),
        ({"rating": 8}, RANGES, "expert"),
        ({"rating": 10.0}, RANGES, "expert"),
        ({"rating": 7.5}, RANGES, "mixed"),
    ],
)
def test_a_class_from_a_field(row: Any, rule: ClassByField, expected: str) -> None:
    assert class_of(row, rule) == expected


@pytest.mark.parametrize(
    ("row", "rule", "reason"),
    [
        ({}, MAP, "has no field 'meta.source'"),
        ({"meta": "gpt4"}, MAP, "has no field 'meta.source'"),
        ({"meta": {"source": None}}, MAP, "has no field 'meta.source'"),
        ({"meta": {"source": "gpt5"}}, MAP, "'meta.source' is 'gpt5', which no class is mapped to"),
        ({"meta": {"source": ["gpt4"]}}, MAP, "no class is mapped to"),
        ({"rating": 7.7}, RANGES, "'rating' is 7.7, outside of all ranges"),
        ({"rating": 11}, RANGES, "outside of all ranges"),
        ({"rating": float("nan")}, RANGES, "outside of all ranges"),
        ({"rating": 10**400}, RANGES, "outside of all ranges"),
        ({"rating": "9"}, RANGES, "'rating' is '9', not a number"),
        ({"rating": True}, RANGES, "not a number"),
    ],
)
def test_rows_without_a_class(row: Any, rule: ClassByField, reason: str) -> None:
    with pytest.raises(RejectedRow, match=reason):
        class_of(row, rule)


def test_the_id_is_that_of_the_content() -> None:
    first = Conversation("expert", "s", (Turn("user", "a"), Turn("assistant", "b")))
    assert first.id == Conversation("mixed", "s", (Turn("user", "a", 0.5), Turn("assistant", "b", 0.1))).id
    others = [
        first._replace(system=""),
        first._replace(turns=first.turns[:1]),
        first._replace(turns=(Turn("user", "ab"), Turn("assistant", ""))),
        first._replace(turns=(Turn("user", "a"), Turn("user", "b"))),
        first._replace(system="", turns=(Turn("user", "s"), *first.turns)),
    ]
    assert len({other.id for other in (first, *others)}) == 6
    assert len(first.id) == 16
