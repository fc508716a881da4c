"""Gives a row its class: a constant, a field's value, or the range a number lies in."""

from __future__ import annotations

from typing import Any

from crlft_ray.config.data import ClassByField, value_text
from crlft_ray.conversations.formats import RejectedRow


def class_of(row: dict[str, Any], rule: str | ClassByField) -> str:
    """The class name of a row.

    Raises:
        RejectedRow: the field is missing, or its value belongs to no class.
    """
    if isinstance(rule, str):
        return rule
    value: Any = row
    for part in rule.field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        raise RejectedRow(f"has no field '{rule.field}' to take its class from")
    if rule.map is not None:
        name = rule.map.get(value_text(value))
        if name is None:
            raise RejectedRow(f"'{rule.field}' is {value!r}, which no class is mapped to")
        return name
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RejectedRow(f"'{rule.field}' is {value!r}, not a number")
    assert rule.ranges is not None
    for name, (low, high) in rule.ranges.items():
        if low <= value <= high:
            return name
    raise RejectedRow(f"'{rule.field}' is {value!r}, outside of all ranges")
