"""The truth of each skill, computed in another way than the world does it: from the question's own text."""

from __future__ import annotations

import re
from datetime import date, timedelta

_FACTORS = {"metre": 100, "hour": 60, "week": 7}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _capitals(question: str) -> str:
    return str(re.findall(r"\b[A-Z]{3,}\b", question)[-1])


def _items(question: str) -> list[str]:
    return str(re.findall(r"(?:\w+, )+\w+", question)[-1]).split(", ")


def _day(name: str) -> date:
    # A Monday.
    first = date(2001, 1, 1)
    return next(day for day in (first + timedelta(n) for n in range(7)) if f"{day:%A}" == name)


def _addition(question: str, before: str) -> str:
    return str(sum(_numbers(question)) + int(before or 0))


def _subtraction(question: str, before: str) -> str:
    return str(abs(int.__sub__(*_numbers(question))))


def _reverse(question: str, before: str) -> str:
    return "".join(reversed(_capitals(question)))


def _drop_vowels(question: str, before: str) -> str:
    return re.sub("[AEIOU]", "", _capitals(question))


def _double_vowels(question: str, before: str) -> str:
    return re.sub("([AEIOU])", r"\1\1", _capitals(question))


def _largest(question: str, before: str) -> str:
    return str(max(_numbers(question)))


def _sort(question: str, before: str) -> str:
    return ", ".join(sorted(_items(question)))


def _drop(question: str, before: str) -> str:
    items = before.split(", ") if before else _items(question)
    place = re.findall("first|second|third|last", question)[-1]
    del items[{"first": 0, "second": 1, "third": 2, "last": -1}[place]]
    return ", ".join(items)


def _weekday(question: str, before: str) -> str:
    (days,) = _numbers(question)
    start = before or re.findall(r"\w+day\b(?<!Today)", question)[0]
    return f"{_day(start) + timedelta(days):%A}"


def _date(question: str, before: str) -> str:
    found = re.search(r"(\d+) ([A-Z][a-z]+)", question)
    assert found is not None
    day, month = found.groups()
    (days,) = _numbers(question.replace(found[0], ""))
    # A year in which February has 28 days.
    start = next(
        one for n in range(365) if f"{(one := date(2001, 1, 1) + timedelta(n)):%B} {one.day}" == f"{month} {day}"
    )
    end = start + timedelta(days)
    return f"{end.day} {end:%B}"


def _units(question: str, before: str) -> str:
    found = re.search(r"(\d+) (metre|hour|week)s? and (\d+)", question)
    assert found is not None
    return str(int(found[1]) * _FACTORS[found[2]] + int(found[3]))


def look_up(table: str, question: str) -> str:
    """The number in the table that stands in `table`, the talk's first question."""
    numbers = dict(re.findall(r"(\w+) (\d+)", table))
    outside = re.sub(r"\w+ \d+", "", question)
    (asked,) = [name for name in numbers if re.search(rf"\b{name}\b", outside)]
    return str(numbers[asked])


def truth(skill: str, questions: tuple[str, ...]) -> list[str]:
    """The right answers to the questions of a talk."""
    answers: list[str] = []
    for question in questions:
        before = answers[-1] if answers else ""
        if skill == "look-up":
            answers.append(look_up(questions[0], question))
        else:
            answers.append(_BY_SKILL[skill](question, before))
    return answers


_BY_SKILL = {
    "addition": _addition,
    "subtraction": _subtraction,
    "reverse": _reverse,
    "drop-vowels": _drop_vowels,
    "double-vowels": _double_vowels,
    "largest": _largest,
    "sort": _sort,
    "drop": _drop,
    "weekday": _weekday,
    "date": _date,
    "units": _units,
}
