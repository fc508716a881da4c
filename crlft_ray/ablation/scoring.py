"""Exact match: is the final answer of a generated reply the right one?

Only the value counts, so a terse "its 57" is as right as the expert's form. The final answer is the last value of the
answer's kind: after the last "Answer:" where there is one, otherwise in the whole reply. A reply that was cut off in
its worked line (it has "=", but no "Answer:") has none.
"""

from __future__ import annotations

import re

from crlft_ray.ablation.problems import Problem
from crlft_ray.ablation.skills.dates import DAYS, MONTHS
from crlft_ray.ablation.sources import MARK

_ITEM = r"(?:\d+|[A-Z]\b)"
_KINDS = {
    "date": re.compile(rf"\b\d+ (?:{'|'.join(MONTHS)})\b"),
    "day": re.compile(rf"\b(?:{'|'.join(DAYS)})\b"),
    "list": re.compile(rf"\b{_ITEM}(?:(?:, *| +){_ITEM})*"),
    "number": re.compile(r"\d+"),
    "word": re.compile(r"\b[A-Z]+\b"),
}


def final_answer(reply: str, like: str) -> str | None:
    """The final answer of a reply, of the same kind as `like`; None if there is none."""
    _, mark, after = reply.rpartition(MARK)
    if not mark and "=" in reply:
        return None
    found = _KINDS[_kind(like)].findall(after if mark else reply)
    return _plain(found[-1]) if found else None


def exact_match(reply: str, problem: Problem) -> bool:
    """Whether the reply's final answer is the problem's."""
    return final_answer(reply, problem.answer) == _plain(problem.answer)


def _kind(answer: str) -> str:
    if ", " in answer:
        return "list"
    return next(kind for kind in ("date", "day", "number", "word") if _KINDS[kind].fullmatch(answer))


def _plain(answer: str) -> str:
    """Lists may be written with or without commas."""
    return re.sub(r"[, ]+", " ", answer)
