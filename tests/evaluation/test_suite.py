"""Reading questions, counting answers, errors and chance."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.agieval import load_questions
from crlft_ray.evaluation.suite import Answer, SuiteScore, best_score, wilson_interval

from .agieval_models import make_rows, write_rows


def test_limit_is_no_head_of_the_file(tmp_path: Path) -> None:
    rows = make_rows("sat-math", 40)
    write_rows(tmp_path, "sat-math", rows)
    every = load_questions(tmp_path, "sat-math")
    assert load_questions(tmp_path, "sat-math", 7) == every[:7]
    write_rows(tmp_path, "sat-math", rows[::-1])
    assert load_questions(tmp_path, "sat-math") == every
    assert [question.text for question in every[:7]] != [row["question"] for row in rows[:7]]


def test_repeated_and_unanswerable_questions(tmp_path: Path) -> None:
    rows = make_rows("sat-en", 100)
    rows[3]["label"] = ["E"]
    assert "E" not in rows[3]["options"]
    rows.append({**rows[5], "label": ["B"]})
    write_rows(tmp_path, "sat-en", rows)
    loaded = load_questions(tmp_path, "sat-en")
    assert len({question.id for question in loaded}) == 101
    assert sum(question.gold not in question.letters for question in loaded) == 1


def test_scores_and_errors() -> None:
    answers = [Answer("a", str(n), "A", "A" if n < 3 else "B", ("A", "B", "C", "D"), (0.0,) * 4) for n in range(4)]
    answers += [Answer("b", str(n), "C", "C", ("A", "B", "C", "D", "E"), (0.0,) * 5) for n in range(11)]
    answers += [Answer("b", str(n), "D", "A", ("A", "B", "C"), (0.0,) * 3) for n in range(11, 12)]
    score = SuiteScore.from_answers("agieval", "template", "GPT4", answers)
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
    again = SuiteScore.from_dict(json.loads(json.dumps(score.to_dict())), json.loads(json.dumps(score.answer_rows())))
    assert again == score
    assert again.answers == score.answers


def test_at_chance() -> None:
    assert wilson_interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)

    def score(right: int) -> SuiteScore:
        return SuiteScore.from_answers(
            "agieval",
            "none",
            None,
            [Answer("a", str(n), "A", "BA"[n < right], ("A", "B"), (0.0, 0.0)) for n in range(100)],
        )

    # The 95 % interval of 60 of 100 is 0.502 to 0.691, that of 59 is 0.492 to 0.681.
    assert [score(right).tasks["a"].at_chance for right in (40, 41, 50, 59, 60)] == [False, True, True, True, False]
    assert best_score([score(50), score(60), score(55)]) == score(60)
    with pytest.raises(UserError, match="no scores"):
        best_score([])
    other = SuiteScore.from_answers("agieval", "none", None, score(50).answers[:50])
    with pytest.raises(UserError, match="not of the same"):
        best_score([score(50), other])


GOOD = '{"question": "Q", "label": ["A"], "options": ["A", "B"]}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "holds no questions"),
        (GOOD + "{broken\n" + GOOD, "line 2: not valid JSON"),
        ("[1]\n", "line 1: must be an object"),
        (GOOD + GOOD.replace('["A"],', '["C"],'), r"line 2: the label is not among the question's options"),
        (GOOD.replace('["A"],', '["AB"],'), "line 1: 'label' must be"),
        (GOOD.replace('["A"],', '"A",'), "line 1: 'label' must be"),
        (GOOD.replace('["A", "B"]', "7"), "line 1: 'options' must be"),
        (GOOD.replace('"Q"', '" "'), "line 1: 'question' must be"),
    ],
)
def test_broken_questions_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "sat-math.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_questions(tmp_path, "sat-math")
    assert str(caught.value).startswith(str(tmp_path / "sat-math.jsonl"))
