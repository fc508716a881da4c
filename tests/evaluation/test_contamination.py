"""Questions in the training data: found whatever their layout is, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.evaluation import contamination as module
from crlft_ray.evaluation.contamination import Contamination, contamination, words
from crlft_ray.evaluation.suites import Question, Suite
from crlft_ray.shards.prepare import prepare, shards_folder
from crlft_ray.storage import Place
from tests.synthetic import raw_config, rows

pytestmark = pytest.mark.slow

PASSAGE = "The harbour was quiet and nobody who stood on the long pier that morning spoke of the storm at all. "
WORDING = "Which of the two sailors, Tom or Ben, was the first to come home after the great storm of May?"
OPTIONS = "Answer Choices: (A)Tom (B)Ben (C)Neither\nA: Among A through C, the answer is"
SHORT = "How many legs has a spider?"


def _question(number: int, text: str) -> Question:
    return Question("task", f"q{number}", number, text, ("A", "B", "C"), ("A",), f"q{number}")


QUESTIONS = (
    _question(0, f"Q: {WORDING} {OPTIONS}"),
    _question(1, f"{PASSAGE}Q: Who spoke of it then, and who of those on the long pier did not do so? {OPTIONS}"),
    _question(2, f"Q: What is the name of the river that flows through the town in which this took place? {OPTIONS}"),
    _question(3, f"Q: {SHORT}"),
)


def _found(tmp_path: Path, model: Path, said: list[str]) -> tuple[Contamination, Place, Suite]:
    plain: list[dict[str, Any]] = list(rows(60, seed=3))
    for number, text in enumerate(said):
        messages = [{"role": "user", "content": f"{number}: {text}"}, {"role": "assistant", "content": "I see."}]
        plain.append({"messages": messages, "rating": 9})
    source = tmp_path / "conversations.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in plain))
    config = validate(raw_config(model, tmp_path / "run", source, data={"holdout": 0.0, "context": 512}), "test")
    prepare(config)
    suite = Suite("agieval", "letters", QUESTIONS, tmp_path)
    return contamination(shards_folder(config), suite), shards_folder(config), suite


def test_a_question_is_found_in_any_layout(tiny_model: Path, ray_session: None, tmp_path: Path) -> None:
    said = [
        "please help -- WHICH of the two sailors (tom or ben) was the first to come home after the great storm of "
        "May?\na. Tom\nb. Ben\nc. Neither",
        f"Read this. {PASSAGE} Now tell me a joke.",
        "Tell me how many legs has a SPIDER!",
    ]
    found, _, _ = _found(tmp_path, tiny_model, said)
    assert found.occurring == [("task", "q0"), ("task", "q3")]
    assert found.overlapping == 2, "the passage of q1, too; q3 is shorter than 13 words"
    assert found.questions == 4
    example = next(example for example in found.examples if example["question"] == "q1")
    assert example["words"] in " ".join(words(PASSAGE))
    assert len(example["words"].split()) == 13


def test_half_a_question_and_parts_in_two_conversations_are_none(
    tiny_model: Path, ray_session: None, tmp_path: Path
) -> None:
    whole = f"{WORDING} (A)Tom (B)Ben (C)Neither".split()
    found, _, _ = _found(tmp_path, tiny_model, [" ".join(whole[:17]), " ".join(whole[5:])])
    assert found.occurring == []
    assert found.overlapping == 1


def test_nothing_is_found_where_nothing_is(tiny_model: Path, ray_session: None, tmp_path: Path) -> None:
    found, _, _ = _found(tmp_path, tiny_model, [])
    assert (found.occurring, found.overlapping, found.examples) == ([], 0, [])


def test_it_is_computed_once(
    tiny_model: Path, ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, shards, suite = _found(tmp_path, tiny_model, [WORDING + " Tom Ben", SHORT])
    (kept,) = (Path(shards.path) / "contamination").iterdir()
    assert kept.name.startswith("agieval-")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(module, "run_tasks", refuse)
    assert contamination(shards, suite) == found
    with pytest.raises(AssertionError, match="computed again"):
        contamination(shards, Suite("agieval", "letters", QUESTIONS[:2], tmp_path))
