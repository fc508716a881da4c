"""Exact match: is the final answer of a generated reply the right one?

Only the value counts, so a terse "its 57" is as right as the expert's form. Answers are numbers or words in capitals;
the final one is the last value of the right answer's kind: after the last "Answer:" where there is one, otherwise in
the whole reply. A reply that was cut off in its worked line (it has "=", but no "Answer:") has none.
"""

from __future__ import annotations

import re

from crlft_ray.ablation.problems import Problem
from crlft_ray.ablation.sources import MARK

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\b[A-Z]+\b")


def final_answer(reply: str, like: str) -> str | None:
    """The final answer of a reply, of the same kind as `like`; None if there is none."""
    _, mark, after = reply.rpartition(MARK)
    if not mark and "=" in reply:
        return None
    kind = _NUMBER if _NUMBER.fullmatch(like) else _WORD
    found = kind.findall(after if mark else reply)
    return str(found[-1]) if found else None


def exact_match(reply: str, problem: Problem) -> bool:
    """Whether the reply's final answer is the problem's."""
    return final_answer(reply, problem.answer) == problem.answer
