"""Suites of the user's own: folders of lm-eval's task files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crlft_ray.errors import UserError
from crlft_ray.evaluation.asking.engine import Engine
from crlft_ray.evaluation.suites import load_suite, load_suites
from crlft_ray.evaluation.way import Way
from tests.evaluation.letter_models import NEWLINE, write_model

pytestmark = pytest.mark.slow

CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: data/colours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: right
doc_to_choice: options
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITTEN = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: answer
generation_kwargs: {until: ["."], max_gen_toks: 8, do_sample: false}
filter_list:
  - name: number
    filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]
  - name: other
    filter: [{function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "colours.yaml").write_text(CHOICE)
    (folder / "sums.yaml").write_text(WRITTEN)
    colours = [
        {"question": f"What is {n}?", "options": ["red", "green", "blue"][: 2 + n % 2], "right": n % 2}
        for n in range(5)
    ]
    sums = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(4)]
    (folder / "data" / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in colours))
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    return folder


def test_their_questions(folder: Path) -> None:
    suite = load_suite(str(folder))
    assert (suite.name, suite.protocol) == ("mine", "tasks")
    colours, sums = ([q for q in suite.questions if q.task == task] for task in ("colours", "sums"))
    assert [q.letters for q in colours[:2]] == [("red", "green"), ("red", "green", "blue")]
    assert [q.gold for q in colours[:2]] == [("red",), ("green",)]
    assert [q.chance for q in colours[:2]] == [1 / 2, 1 / 3]
    assert [(q.text, q.gold, q.chance) for q in sums[:1]] == [("What is 0 + 1?", ("1",), 0.0)]
    assert len({q.id for q in suite.questions}) == 9
    assert len(load_suite(str(folder), limit=2).questions) == 4


def test_any_part_of_them_is_answered_as_the_whole(folder: Path, tmp_path: Path) -> None:
    """Questions are spread over workers: what is answered must not depend on who else is asked."""
    engine = Engine(write_model(tmp_path / "model", NEWLINE, adds_bos=False), precision="fp32")
    suite = load_suite(str(folder))
    whole = engine.ask(suite, Way("template"))
    assert [(a.task, a.question) for a in whole] == [(q.task, q.id) for q in suite.questions]
    for answer, question in zip(whole, suite.questions, strict=True):
        if question.task == "colours":
            best = answer.loglikelihoods.index(max(answer.loglikelihoods))
            assert answer.chosen == question.letters[best]
            assert answer.value == (answer.chosen in question.gold)
        else:
            assert answer.response is not None
            assert answer.value == (answer.chosen == question.gold[0])
    known = {(a.task, a.question): a for a in whole}
    # With a limit they come in the order of their ids, which is not that of the data.
    for places in ((7, 1, 3), (8, 4, 2, 6, 1)):
        picked = tuple(suite.questions[place] for place in places)
        part = engine.ask(type(suite)(suite.name, suite.protocol, picked, suite.folder), Way("template"))
        for answer in part:
            other = known[answer.task, answer.question]
            assert (answer.chosen, answer.response, answer.value) == (other.chosen, other.response, other.value)
            assert (answer.gold, answer.letters) == (other.gold, other.letters)
            assert answer.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-4)
        assert sorted((a.task, a.question) for a in part) == sorted((q.task, q.id) for q in picked)


SHOTS = WRITTEN.replace("test_split: test\n", "test_split: test\nfewshot_split: train\nnum_fewshot: 2\n").replace(
    "{test: sums.jsonl}", "{test: sums.jsonl, train: shots.jsonl}"
)


@pytest.mark.parametrize(
    ("change", "tasks"),
    [
        (lambda f: (f / "colours.yaml").write_text(CHOICE.replace('"{{question}}"', '"Say: {{question}}"')), "both"),
        (lambda f: (f / "colours.yaml").write_text(CHOICE.replace("metric: acc,", "metric: acc_norm,")), "both"),
        (lambda f: (f / "sums.yaml").write_text(SHOTS.replace("num_fewshot: 2", "num_fewshot: 1")), "both"),
        (lambda f: (f / "functions.py").write_text("def doc_to_text(doc):\n    return '?'\n"), "both"),
        (lambda f: (f / "shots.jsonl").write_text('{"question": "What is 9 + 1?", "answer": "10"}\n' * 3), "sums"),
    ],
    ids=["prompt", "metric", "number of shots", "functions", "shots"],
)
def test_other_settings_make_other_questions(folder: Path, change: Callable[[Path], object], tasks: str) -> None:
    """Of the same rows in the same halves: answers to the former ones are none to these."""
    (folder / "functions.py").write_text("def doc_to_text(doc):\n    return doc['question']\n")
    (folder / "sums.yaml").write_text(SHOTS)
    (folder / "shots.jsonl").write_text('{"question": "What is 8 + 1?", "answer": "9"}\n' * 3)
    before = load_suite(str(folder), limit=3)
    assert load_suite(str(folder), limit=3) == before
    change(folder)
    after = load_suite(str(folder), limit=3)
    rows = [[(q.task, q.number, q.group, q.half, q.gold) for q in suite.questions] for suite in (before, after)]
    assert rows[0] == rows[1]
    assert after.digest != before.digest
    for one, two in zip(before.questions, after.questions, strict=True):
        assert (one.id != two.id) == (tasks in ("both", one.task))


def test_its_files_are_found_from_any_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert load_suite("mine").folder == folder


def test_two_of_the_same_name_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "v2" / "mine"
    shutil.copytree(folder, other)
    assert [suite.name for suite in load_suites([str(folder)])] == ["mine"]
    with pytest.raises(UserError, match=f"suite: '{other}' is the second one that is called 'mine'"):
        load_suites([str(folder), str(other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "sums.jsonl").unlink(), "lm-eval cannot load sums.yaml"),
        (lambda f: (f / "sums.yaml").write_text("task: [\n"), "lm-eval cannot load sums.yaml"),
        (
            lambda f: (f / "sums.yaml").write_text(WRITTEN.replace("sums.jsonl", "nowhere/x.jsonl")),
            "cannot load sums.yaml",
        ),
        (
            lambda f: (f / "sums.yaml").write_text(WRITTEN.replace("generate_until", "loglikelihood_rolling")),
            "output_type",
        ),
    ],
)
def test_broken_ones_are_named(folder: Path, change: Callable[[Path], object], message: str) -> None:
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_suite(str(folder))
    assert str(folder) in str(caught.value)


def test_what_is_no_suite(tmp_path: Path) -> None:
    for name in ("nothing", str(tmp_path), "agieval:write", f"{tmp_path}:generate"):
        with pytest.raises(UserError, match="is none of agieval, bbh, agieval:generate, bbh:generate and no folder"):
            load_suite(name)
    with pytest.raises(UserError, match="limit: must be at least 1"):
        load_suite("agieval", limit=0)
