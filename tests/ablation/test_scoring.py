"""Exact match reads the value out of a reply in any style, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.ablation.answers import Answered
from crlft_ray.ablation.draw import draw_talk
from crlft_ray.ablation.problems import Problem, problems
from crlft_ray.ablation.scoring import exact_match, final_answer
from crlft_ray.ablation.skills import SKILLS, Skill
from crlft_ray.ablation.sources import SOURCES, SourceName, reply


def _problem(answer: str) -> Problem:
    return Problem(("?",), answer, answer, "any", "test", "in")


RIGHT = [
    ("57", "Answer: 57"),
    ("57", "9+8=17, 4+1=5\nAnswer: 57"),
    ("57", "its 57"),
    ("57", "57 i guess"),
    ("57", "That makes 57."),
    ("57", "75, no, 57"),
    ("57", "12, 57, 57\nAnswer: 57"),
    ("57", "i think 57"),
    ("57", "uh 57"),
    ("BMAL", "BMAL i guess"),
    ("BMAL", "uh BMAL"),
    ("BMAL", "That makes BMAL."),
    ("BMAL", "Answer: BMAL"),
]
WRONG = [
    ("57", "Answer: 75"),
    ("57", "Answer: 57\nAnswer: 75"),
    ("57", "57\nAnswer: 75"),
    ("57", "its 57 or 75"),
    ("57", "Answer:"),
    ("57", ""),
    ("57", "5 7"),
    ("57", "157"),
    ("57", "570"),
    ("57", "no idea"),
    ("57", "9+48=57"),
    ("5", "Answer: 57"),
    ("57", "Answer: 5"),
    ("BMAL", "Answer: BAML"),
    ("BMAL", "Answer: BMA"),
    ("BMAL", "Answer: LBMAL"),
    ("BMAL", "BMAL LAMB"),
    ("BMAL", "bmal"),
]


@pytest.mark.parametrize(("answer", "text"), RIGHT)
def test_the_right_value_counts_in_every_style(answer: str, text: str) -> None:
    assert exact_match(text, _problem(answer))


@pytest.mark.parametrize(("answer", "text"), WRONG)
def test_another_final_value_does_not(answer: str, text: str) -> None:
    assert not exact_match(text, _problem(answer))


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
@given(seed=st.integers(0, 2**32), source=st.sampled_from(SOURCES), slips=st.booleans())
def test_every_source_is_read_as_it_meant(skill: Skill, seed: int, source: SourceName, slips: bool) -> None:
    exercise = draw_talk(random.Random(seed), skill, "train", "in", slips=slips).exercises[-1]
    meant = {"expert": exercise.truth, "middle": exercise.middle, "weak": exercise.weak}[source]
    said = reply(source, exercise, random.Random(seed))
    assert exact_match(said, _problem(exercise.truth)) == (meant == exercise.truth)
    assert final_answer(said, meant) == final_answer(meant, meant)


@given(text=st.text(), number=st.integers(0, 119))
def test_any_text_can_be_scored(text: str, number: int) -> None:
    problem = PROBLEMS[number]
    assert exact_match(text, problem) in (True, False)
    assert exact_match(f"{text}\nAnswer: {problem.answer}", problem)


PROBLEMS = problems("validation", "in", 120)


@pytest.mark.parametrize(
    ("slip", "said", "repeats"),
    [("47", "its 47", True), ("47", "7+0=7\nAnswer: 47", True), ("47", "its 57", False), ("47", "its 46", False),
     ("57", "its 57", False)],
)  # fmt: skip
def test_a_slip_is_repeated_only_where_the_weak_source_is_wrong(slip: str, said: str, repeats: bool) -> None:
    problem = Problem(("?",), "57", slip, "any", "test", "in")
    assert Answered(problem, said, exact_match(said, problem)).repeats_slip is repeats
