"""Counting answers: scores, errors and chance."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.scores import SuiteScore, best_score, wilson_interval
from crlft_ray.evaluation.way import Way


def _answer(task: str, number: int, gold: str, chosen: str, letters: str) -> Answer:
    chance = (gold in letters) / len(letters)
    value = float(gold == chosen)
    return Answer(task, str(number), str(number), "gate", (gold,), chosen, value, chance, tuple(letters))


def test_scores_and_errors() -> None:
    answers = [_answer("a", n, "A", "A" if n < 3 else "B", "ABCD") for n in range(4)]
    answers += [_answer("b", n, "C", "C", "ABCDE") for n in range(11)]
    answers += [_answer("b", 11, "D", "A", "ABC")]
    score = SuiteScore.from_answers("agieval", Way("template", "GPT4"), answers)
    a, b = score.tasks["a"], score.tasks["b"]
    assert (a.score, a.questions, a.chance) == (0.75, 4, 0.25)
    assert a.stderr == pytest.approx(statistics.stdev([1, 1, 1, 0]) / 2)
    assert b.stderr == pytest.approx(statistics.stdev([1] * 11 + [0]) / math.sqrt(12))
    assert b.unanswerable == 1
    assert b.chance == pytest.approx(11 / 5 / 12)
    assert score.score == pytest.approx((0.75 + 11 / 12) / 2)
    assert score.stderr == pytest.approx(math.sqrt(a.stderr**2 + b.stderr**2) / 2)
    assert score.score_by_question == pytest.approx(14 / 16)
    assert not b.at_chance
    assert not score.at_chance
    assert score.to_dict()["way"] == "chat template as GPT4"
    assert "answers" not in score.to_dict()
    assert json.loads(json.dumps(score.to_dict()))["tasks"]["a"]["score"] == 0.75


def test_at_chance() -> None:
    assert wilson_interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)

    def score(right: int) -> SuiteScore:
        answers = [_answer("a", n, "A", "BA"[n < right], "AB") for n in range(100)]
        return SuiteScore.from_answers("agieval", Way("none"), answers)

    # The 95 % interval of 60 of 100 is 0.502 to 0.691, that of 59 is 0.492 to 0.681.
    assert [score(right).tasks["a"].at_chance for right in (40, 41, 50, 59, 60)] == [False, True, True, True, False]
    assert best_score([score(50), score(60), score(55)]) == score(60)
    with pytest.raises(UserError, match="no scores"):
        best_score([])
    other = SuiteScore.from_answers("agieval", Way("none"), score(50).answers[:50])
    with pytest.raises(UserError, match="not of the same"):
        best_score([score(50), other])
