"""`crlft evaluate` on the cluster: questions spread, asked once, compared, and shown."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from crlft_ray.device import native_precision
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import AnswerFile, from_arrow
from crlft_ray.evaluation.asking.engine import Engine
from crlft_ray.evaluation.evaluate import Evaluation, evaluate
from crlft_ray.evaluation.scoring import score_models
from crlft_ray.evaluation.suites import load_suite
from crlft_ray.evaluation.way import Way
from crlft_ray.storage import Place
from tests.evaluation.letter_models import NEWLINE, write_model
from tests.registry.conftest import write_suite
from tests.runs import FinishedRun

pytestmark = pytest.mark.slow

LIMIT = 2
VICTIM = """
import sys
from crlft_ray.evaluation.scoring import score_models
from crlft_ray.evaluation.suites import load_suite
from crlft_ray.ray_session import connect
from crlft_ray.storage import Place

connect(cpus=2)
score_models([sys.argv[1]], [load_suite("agieval", limit=12)], Place.of(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "model", NEWLINE, adds_bos=False)


@pytest.fixture(scope="module")
def evaluated(ray_session: None, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    output = tmp_path_factory.mktemp("evaluated")
    other = write_model(output / "other", None, seed=5)
    found = evaluate([str(base), str(other)], suites=["agieval"], limit=LIMIT, output=str(output / "out"))
    return found, output / "out"


def test_what_is_spread_is_what_one_process_answers(evaluated: tuple[Evaluation, Path], base: Path) -> None:
    suite = load_suite("agieval", limit=LIMIT)
    score = evaluated[0].models[0].suites["agieval"]
    alone = {(a.task, a.question): a for a in Engine(base, precision=native_precision()).ask(suite, score.way)}
    assert [(a.task, a.question) for a in score.answers] == [(q.task, q.id) for q in suite.questions]
    for answer in score.answers:
        assert answer.loglikelihoods == pytest.approx(alone[answer.task, answer.question].loglikelihoods, abs=0.02)


def test_the_base_is_asked_in_both_ways_and_the_better_one_counts(evaluated: tuple[Evaluation, Path]) -> None:
    files = {file.name for file in (evaluated[1] / "answers").iterdir()}
    assert sum("-chat-template-" in name for name in files) == 1, "the other model has no template"
    assert sum("-no-template-" in name for name in files) == 2
    score = evaluated[0].models[0].suites["agieval"]
    (with_template,) = (evaluated[1] / "answers").glob("*-chat-template-*")
    both = [
        sum(answer.value for answer in from_arrow(file.read_bytes(), file.name))
        for file in (evaluated[1] / "answers").glob(f"{with_template.name.split('-')[0]}-*")
    ]
    assert len(both) == 2
    assert score.score * LIMIT * 8 == pytest.approx(max(both))
    assert str(evaluated[0].models[1].suites["agieval"].way) == "no template"


def test_the_report_is_one_page_that_loads_nothing(evaluated: tuple[Evaluation, Path]) -> None:
    page = (evaluated[1] / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "data:image/png;base64," in page
    for task in evaluated[0].models[0].suites["agieval"].tasks:
        assert task in page
    assert page.count("<details>") == min(20, evaluated[0].comparisons[0].comparison.only_first_right
                                          + evaluated[0].comparisons[0].comparison.only_second_right)  # fmt: skip
    assert json.loads((evaluated[1] / "scores.json").read_text()) == json.loads(json.dumps(evaluated[0].to_dict()))


def test_it_is_a_run_in_mlflow(evaluated: tuple[Evaluation, Path]) -> None:
    client = MlflowClient(f"sqlite:///{evaluated[1] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("crlft")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    scores = evaluated[0].models
    assert run.data.metrics["generalization/agieval"] == pytest.approx(scores[0].suites["agieval"].score)
    assert run.data.metrics["base/generalization/agieval"] == pytest.approx(scores[1].suites["agieval"].score)
    kept = {item.path for item in client.list_artifacts(run.info.run_id, "evaluation")}
    assert kept == {"evaluation/report.html", "evaluation/scores.json"}


def test_no_question_is_asked_twice(
    ray_session: None, evaluated: tuple[Evaluation, Path], base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = Place.of(evaluated[1] / "answers")
    with caplog.at_level(logging.INFO, "crlft_ray"):
        (again,) = score_models([str(base)], [load_suite("agieval", limit=LIMIT)], answers)
        assert "asking" not in caplog.text
        (more,) = score_models(
            [str(base)], [load_suite("agieval", limit=LIMIT + 1)], Place.of(evaluated[1] / "answers")
        )
    assert "asking" in caplog.text
    assert "16 questions, 32 are answered already" in caplog.text
    assert again["agieval"].answers == evaluated[0].models[0].suites["agieval"].answers
    assert len(more["agieval"].answers) == 24


def test_a_changed_prompt_is_asked(
    ray_session: None, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = write_suite(tmp_path / "mine", count=6)
    file, answers = suite / "replies.yaml", Place.of(tmp_path / "answers")
    first = score_models([str(base)], [load_suite(str(suite))], answers)[0]["mine"]
    before = file.read_text()
    file.write_text(before.replace('"{{question}}"', '"{{question}} Say it in other words."'))
    with caplog.at_level(logging.INFO, "crlft_ray"):
        second = score_models([str(base)], [load_suite(str(suite))], answers)[0]["mine"]
        assert "asking 12 questions" in caplog.text, "with the template and with none"
        assert "answered already" not in caplog.text
        caplog.clear()
        file.write_text(before)
        assert score_models([str(base)], [load_suite(str(suite))], answers)[0]["mine"] == first
    assert "asking" not in caplog.text
    values = [[answer.loglikelihoods for answer in score.answers] for score in (first, second)]
    assert values[0] != values[1]


def test_killed_in_the_middle(ray_session: None, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was answered when the process was killed is not asked again, and the scores are those of one that lived."""
    answers = tmp_path / "answers"
    with (tmp_path / "log").open("w") as log:
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(base), str(answers)], stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + 180
    while len(list(answers.glob("*.parts/*.arrow"))) < 4:
        assert victim.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    keys = {path.name.split(".")[0] for path in answers.iterdir()}
    kept = sum(len(AnswerFile(Place.of(answers), key).read()) for key in keys)
    assert 0 < kept < 192
    with caplog.at_level(logging.INFO, "crlft_ray"):
        found = score_models([str(base)], [load_suite("agieval", limit=12)], Place.of(answers))[0]["agieval"]
    assert f"{192 - kept} questions, {kept} are answered already" in caplog.text
    assert not list(answers.glob("*.parts"))
    assert len(found.answers) == 96


def test_conditions_by_class(finished: FinishedRun, base: Path, tmp_path: Path) -> None:
    suite = load_suite("agieval", limit=1)
    place = Place.of(tmp_path)
    export = finished.trained.export
    names = (None, "expert", "mixed", "none")
    scores = {name: score_models([export], [suite], place, condition=name)[0]["agieval"] for name in names}
    assert [score.way for score in scores.values()] == [
        Way("template"), Way("template", "GPT4"), Way("template", "GPT3"), Way("template", ""),
    ]  # fmt: skip
    values = {name: [answer.loglikelihoods for answer in score.answers] for name, score in scores.items()}
    assert values[None] == values["expert"] != values["mixed"]
    assert values["none"] != values["mixed"]
    with pytest.raises(UserError, match="'teacher' is none of this model's classes: expert, mixed, none"):
        score_models([export], [suite], place, condition="teacher")
    with pytest.raises(UserError, match="none of these models was trained with conditions"):
        evaluate([str(base)], limit=1, condition="expert", output=str(tmp_path / "out"))


def test_paths_are_those_of_this_process(
    finished: FinishedRun, base: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's processes have another working folder, as on every cluster that was started elsewhere."""
    write_suite(tmp_path / "mine", count=4)
    (tmp_path / "run").symlink_to(finished.output)
    (tmp_path / "base").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    models = ["run/export", "base"]
    found = evaluate(models, suites=["mine"], shards="run/shards", heldout=1, output="out")
    assert [scores.model for scores in found.models] == models
    assert all(scores.heldout is not None for scores in found.models)
    assert [len(scores.suites["mine"].answers) for scores in found.models] == [4, 4]
    assert (tmp_path / "out" / "report.html").exists()


def test_bad_input(ray_session: None, base: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="suite: 'nothing' is none of"):
        evaluate([str(base)], suites=["nothing"], output=out)
    with pytest.raises(UserError, match="no such model folder"):
        evaluate(["./nowhere"], limit=1, output=out)
    with pytest.raises(UserError, match="given twice"):
        evaluate([str(base), str(base)], limit=1, output=out)
    with pytest.raises(UserError, match="'agieval' is the second one that is called 'agieval'"):
        evaluate([str(base)], suites=["agieval", "agieval"], limit=1, output=out)
    with pytest.raises(UserError, match="nothing to evaluate on"):
        evaluate([str(base)], suites=[], output=out)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "x.arrow").write_bytes(b"no arrow")
    with pytest.raises(UserError, match=r"x\.arrow: holds no answers"):
        AnswerFile(Place.of(tmp_path / "answers"), "x").read()
