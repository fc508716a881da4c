"""Reading questions with letters, and which of them belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.suites.letters import load_letters
from tests.evaluation.letter_models import make_rows, write_rows


def test_the_order_is_no_matter_of_the_file(tmp_path: Path) -> None:
    rows = make_rows("sat-math", 40)
    write_rows(tmp_path, "sat-math", rows)
    every = load_letters(tmp_path, ("sat-math",), passages=True)
    write_rows(tmp_path, "sat-math", rows[::-1])
    again = load_letters(tmp_path, ("sat-math",), passages=True)
    assert [(q.id, q.group, q.half) for q in again] == [(q.id, q.group, q.half) for q in every]
    assert [question.text for question in every[:7]] != [row["question"] for row in rows[:7]]


def test_repeated_and_unanswerable_questions(tmp_path: Path) -> None:
    rows = make_rows("sat-en", 100)
    rows[3]["label"] = ["E"]
    assert "E" not in rows[3]["options"]
    rows.append({**rows[5], "label": ["B"]})
    write_rows(tmp_path, "sat-en", rows)
    loaded = load_letters(tmp_path, ("sat-en",), passages=True)
    assert len({question.id for question in loaded}) == 101
    assert [question.chance for question in loaded].count(0.0) == 1


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
        load_letters(tmp_path, ("sat-math",), passages=True)
    assert str(caught.value).startswith(str(tmp_path / "sat-math.jsonl"))


def _loaded(folder: Path, **tasks: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    for task, texts in tasks.items():
        write_rows(folder, task, [{"question": text, "label": ["A"], "options": ["A", "B"]} for text in texts])
    questions = load_letters(folder, tuple(tasks), passages=True)
    return {(q.task, q.text): (q.group, q.half) for q in questions}


def test_a_passage_and_a_wording_tie_questions_together(tmp_path: Path) -> None:
    passage, other = "Once upon a time there was a king. " * 4, "A quite different text about whales and the sea. " * 4
    found = _loaded(
        tmp_path,
        one=[f"{passage}Q: Who was there?", f"{passage} Q: When was it?", f"{other}Q: Who swam?", "Q: Alone?"],
        two=["Q: When was it?", "Q: Something else?", "1 Q: Alone?"],
    )
    group = {text: found["one", text][0] for task, text in found if task == "one"}
    by_text = dict(group)
    assert by_text[f"{passage}Q: Who was there?"] == by_text[f"{passage} Q: When was it?"]
    assert found["two", "Q: When was it?"][0] == by_text[f"{passage} Q: When was it?"], "the twin without its passage"
    assert found["two", "1 Q: Alone?"][0] == by_text["Q: Alone?"], "a number is no passage"
    assert len({*group.values(), found["two", "Q: Something else?"][0]}) == 4
    for half in {half for _, half in found.values()}:
        groups = {name for name, other in found.values() if other == half}
        assert not groups & {name for name, other in found.values() if other != half}


def test_both_halves_are_about_half(tmp_path: Path) -> None:
    write_rows(tmp_path, "sat-math", make_rows("sat-math", 400))
    halves = [question.half for question in load_letters(tmp_path, ("sat-math",), passages=True)]
    assert 150 < halves.count("gate") < 250
