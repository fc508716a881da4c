"""From rows in three formats to system text and turns; what is no conversation is rejected with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.conversations import Turn
from crlft_ray.conversations.formats import RejectedRow, parse_row

TURNS = [("user", "How much?"), ("assistant", "Forty-two."), ("user", "Sure?"), ("assistant", "Yes.")]


def row_of(format: str, system: str = "", **extra: Any) -> dict[str, Any]:
    """`TURNS` in a format; `extra` goes into the second message."""
    if format == "sharegpt":
        names = {"user": "human", "assistant": "gpt"}
        items: list[dict[str, Any]] = [{"from": names[role], "value": text} for role, text in TURNS]
    else:
        items = [{"role": role, "content": text} for role, text in TURNS]
    items[1].update(extra)
    if format == "messages":
        return {"messages": [{"role": "system", "content": system}, *items] if system else items}
    return {"items" if format == "openchat" else "conversations": items, "system": system}


FORMATS = ["openchat", "messages", "sharegpt"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_the_formats_mean_the_same(format: str, system: str) -> None:
    expected = (system, [Turn(role, text) for role, text in TURNS])
    assert parse_row(row_of(format, system), format, "learn") == expected


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("weight", "learn", "keep"), [(None, 1.0, 1.0), (0, 0.0, 0.0), (0.1, 1.0, 0.1), (1, 1.0, 1.0), (2.5, 1.0, 2.5)]
)
def test_message_weights(format: str, weight: float | None, learn: float, keep: float) -> None:
    row = row_of(format, weight=weight)
    assert [turn.weight for turn in parse_row(row, format, "learn")[1]] == [1.0, learn, 1.0, 1.0]
    assert [turn.weight for turn in parse_row(row, format, "keep")[1]] == [1.0, keep, 1.0, 1.0]


@pytest.mark.parametrize("name", ["human", "user"])
@pytest.mark.parametrize("answerer", ["gpt", "chatgpt", "bing", "bard", "assistant", "model"])
def test_names_of_roles(name: str, answerer: str) -> None:
    row = {"conversations": [{"from": name, "value": "a"}, {"from": answerer, "value": "b"}]}
    assert [turn.role for turn in parse_row(row, "sharegpt", "learn")[1]] == ["user", "assistant"]


def test_text_is_stripped() -> None:
    row = {"messages": [{"role": "system", "content": "\ts "}, {"role": "user", "content": "\n a\u00a0b \u2003"}]}
    assert parse_row(row, "messages", "learn") == ("s", [Turn("user", "a\u00a0b")])


def test_a_system_text_in_both_places() -> None:
    row = {"items": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}], "system": " s "}
    assert parse_row(row, "openchat", "learn")[0] == "s"
    row["system"] = "other"
    with pytest.raises(RejectedRow, match="two different system texts"):
        parse_row(row, "openchat", "learn")


USER = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "is missing, not an object"),
        ([USER], "is a list, not an object"),
        ("text", "is text, not an object"),
        (7, "is a number, not an object"),
        ({}, "has no list 'messages'"),
        ({"messages": "x"}, "'messages' is text, not a list"),
        ({"messages": {"role": "user"}}, "'messages' is an object, not a list"),
        ({"messages": [USER, "x"]}, r"messages\[1\] is text, not an object"),
        ({"messages": [{"content": "a"}]}, r"messages\[0\].role is None, not one of human, user"),
        ({"messages": [{"role": "tool", "content": "a"}]}, r"messages\[0\].role is 'tool'"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, r"messages\[0\].role is \['user'\]"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content is missing, not text"),
        ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\].content is a number, not text"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "content is a list, not text"),
        ({"messages": [{"role": "user", "content": True}]}, "content is a boolean, not text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half of a surrogate pair"),
        ({"messages": [{**USER, "weight": -1}]}, r"messages\[0\].weight is -1, not a number from 0"),
        ({"messages": [{**USER, "weight": "1"}]}, "weight is '1'"),
        ({"messages": [{**USER, "weight": True}]}, "weight is True"),
        ({"messages": [{**USER, "weight": float("nan")}]}, "weight is nan"),
        ({"messages": [{**USER, "weight": float("inf")}]}, "weight is inf"),
        ({"messages": [{**USER, "weight": 10**400}]}, "weight is 1000"),
        ({"messages": [USER, {"role": "system", "content": "s"}]}, "system text after the first message"),
    ],
)
def test_rejected(row: Any, reason: str) -> None:
    with pytest.raises(RejectedRow, match=reason):
        parse_row(row, "messages", "learn")


@pytest.mark.parametrize("system", [5, [], False, {"a": 1}, "\udfff"])
def test_a_system_text_that_is_no_text(system: Any) -> None:
    for format in ("openchat", "sharegpt"):
        with pytest.raises(RejectedRow, match=r"^system "):
            parse_row({**row_of(format), "system": system}, format, "learn")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "items", "conversations", "role", "content", "from", "value", "weight", "system"]
            ),
            inner | st.sampled_from(["user", "assistant", "system", "gpt"]),
            max_size=4,
        )
    ),
)


@given(anything, st.sampled_from(FORMATS), st.sampled_from(["learn", "keep"]))
def test_any_value_is_parsed_or_rejected(row: Any, format: str, message_weights: str) -> None:
    try:
        system, turns = parse_row(row, format, message_weights)
    except RejectedRow:
        return
    assert system == system.strip()
    for role, content, weight in turns:
        assert role in ("user", "assistant")
        assert content == content.strip()
        assert 0 <= weight < float("inf")
