"""The paired permutation test and its interval: their promises, measured."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.comparison import OtherQuestions, compare
from tests.evaluation.made_answers import SIZES, answers, difficulties, drawn


def test_equal_models_are_wrongly_significant_in_5_percent() -> None:
    """The bar is 5 % ± 2 of 1,000 pairs; answers on one passage depend on each other."""
    significant = covered = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        difficulty = difficulties(rng)
        # A model may know what one passage is about and another model that of another.
        first, second = (drawn(rng, 0.5, difficulty + np.repeat(rng.normal(0, 0.2, 55), 4)) for _ in range(2))
        found = compare(first, second, permutations=500, seed=seed)
        significant += found.p_value <= 0.05
        covered += found.low <= 0 <= found.high
    assert 30 <= significant <= 70
    assert 920 <= covered <= 975, "a 95 % interval, of 55 groups"


def test_ignoring_passages_would_be_wrong_more_often() -> None:
    """The case above is a hard one: questions taken one by one are significant far too often."""
    significant = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        difficulty = difficulties(rng)
        pair = [drawn(rng, 0.5, difficulty + np.repeat(rng.choice([-0.4, 0.4], 55), 4)) for _ in range(2)]
        alone = [[replace(answer, group=answer.task + answer.question) for answer in one] for one in pair]
        significant += compare(*alone, permutations=300, seed=seed).p_value <= 0.05
    assert significant > 8


def test_a_better_model_is_found() -> None:
    rng = np.random.default_rng(0)
    difficulty = difficulties(rng)
    good, bad = drawn(rng, 0.7, difficulty), drawn(rng, 0.4, difficulty)
    found = compare(good, bad)
    assert found.p_value < 0.001
    assert 0 < found.low < found.difference < found.high
    back = compare(bad, good)
    assert back.difference == pytest.approx(-found.difference)
    assert back.p_value > 0.99
    assert (back.only_first_right, back.only_second_right) == (found.only_second_right, found.only_first_right)


def test_the_p_value_is_that_of_all_permutations() -> None:
    """Ten groups have 1,024 sign patterns; counting them all is the exact test."""
    rng = np.random.default_rng(3)
    first, second = (
        [
            Answer(task, f"{group}-{number}", str(group), "gate", ("A",), "A", float(rng.random() < share), 0.25)
            for group in range(10)
            for task, number in (("x", 0), ("x", 1), ("y", 0))
        ]
        for share in (0.7, 0.45)
    )
    sizes = {"x": 20, "y": 10}
    shares = [
        sum(
            (a.value - b.value) / sizes[a.task] / 2 for a, b in zip(first, second, strict=True) if a.group == str(group)
        )
        for group in range(10)
    ]
    observed = sum(shares)
    sums = [sum(s * x for s, x in zip(signs, shares, strict=True)) for signs in itertools.product((1, -1), repeat=10)]
    exact = sum(value >= observed - 1e-12 for value in sums) / 1024
    assert 0.001 < exact < 0.5
    assert compare(first, second, permutations=100_000).p_value == pytest.approx(exact, rel=0.05)


def test_tasks_count_equally() -> None:
    """All of the smallest task and nothing of the largest."""
    rights = [0] * SIZES["a"] + [0] * SIZES["b"] + [1] * SIZES["c"]
    found = compare(answers(rights), answers([0] * 220))
    assert found.difference == pytest.approx(1 / 3)
    assert found.questions == 220


def test_the_same_answers_give_the_same_numbers() -> None:
    rng = np.random.default_rng(1)
    difficulty = difficulties(rng)
    first, second = drawn(rng, 0.6, difficulty), drawn(rng, 0.5, difficulty)
    found = compare(first, second)
    assert found == compare(first, second)
    assert found == compare(first, second[::-1])
    same = compare(first, first)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_questions_that_are_left_out() -> None:
    first, second = answers([1] * 220), answers([0] * 220)
    known = {("a", str(number)) for number in range(30)}
    found = compare(first, second, left_out=known)
    assert (found.questions, found.left_out) == (190, 30)
    everything = {(answer.task, answer.question) for answer in first}
    with pytest.raises(UserError, match="no question is left"):
        compare(first, second, left_out=everything)


def test_other_questions_are_refused() -> None:
    first = answers([1] * 220)
    with pytest.raises(
        OtherQuestions, match="first was asked 220, the second 219; 1 only the first, 0 only the second"
    ):
        compare(first, first[1:])
    with pytest.raises(OtherQuestions, match="other right answers"):
        compare(first, answers([1] * 220, gold="B"))
    with pytest.raises(OtherQuestions):
        compare([], [])
