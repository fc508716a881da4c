"""A small ablation, by the very path of the large one: Tune, Train, ZeRO-3, answers, report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from crlft_ray.ablation.answers import Answered, write_answers
from crlft_ray.ablation.model import Size
from crlft_ray.ablation.results import Ablation, _chosen
from crlft_ray.ablation.rows import CRLFT, EVERYTHING, NO_REWARD, SIX, rows_of
from crlft_ray.ablation.scale import Scale
from crlft_ray.ablation.study import _check_all_asked, run_ablation
from crlft_ray.ablation.trial import Arena
from crlft_ray.errors import UserError
from crlft_ray.tuning.journal import Journal

ROWS = tuple(row for row in SIX if row.name in (CRLFT, EVERYTHING))
SCALE = Scale(
    conversations=600, expert_share=0.2, size=Size(hidden=32, layers=2, heads=2, intermediate=64), steps=3,
    learned_tokens=300, at_once=2,
)  # fmt: skip
LEVELS = {"in": 12, "longer": 12, "phrasing": 12}


def test_the_six_rows_are_the_papers() -> None:
    papers = [row.paper for row in SIX]
    assert papers == sorted(papers, key=lambda mean: -(mean or 0.0))


def test_every_row_is_compared_with_one_of_the_same_conversations() -> None:
    """They may have other tags: what wrong ones cost is seen beside the right ones."""
    further, longer = rows_of(further=True), rows_of(named="times the steps")
    assert (len(further), len(longer)) == (6 + 8 + 2 + 2 + 2, 2)
    rows = {row.name: row for row in (*further, *longer)}
    for row in rows.values():
        against = rows[row.against]
        tagged_rightly = {key: value for key, value in row.world.items() if key != "mislabelled"}
        assert (against.world, against.times) == (tagged_rightly, row.times)
        assert row.against.startswith(CRLFT)


def test_rows_by_name_come_with_what_they_are_compared_with() -> None:
    assert rows_of() == SIX
    assert [row.name for row in rows_of(named="weight 0.3")] == [CRLFT, f"{CRLFT}, weight 0.3"]
    assert [row.name for row in rows_of(named="expert data, 1% expert")] == [
        f"{CRLFT}, 1% expert", "only the expert data, 1% expert",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no row's name contains 'reword'; the rows are\n  C-RLFT"):
        rows_of(named="reword")


def test_a_folder_with_a_row_that_is_no_more_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracking" / "study" / "trials.jsonl")
    journal.started("000", {"seed": 0, "row": "C-RLFT, 2% expert"})
    with pytest.raises(UserError, match=r"has 'C-RLFT, 2% expert', which is no row any more; choose another output"):
        _check_all_asked(tmp_path, {row.name: row for row in SIX}, 1)


def test_the_weight_that_validation_chooses_is_compared_with_the_six_rows(tmp_path: Path) -> None:
    rows = {row.name: row for row in (*SIX, *rows_of(named="weight 0.3")[1:])}
    arena = Arena(tmp_path, rows, SCALE, LEVELS, "test", "", "", None)  # type: ignore[arg-type]
    right = {"test": {CRLFT: 5, f"{CRLFT}, weight 0.3": 4}, "validation": {CRLFT: 2, f"{CRLFT}, weight 0.3": 6}}
    for split, of_rows in right.items():
        there = replace(arena, split=split)  # type: ignore[arg-type]
        for name in rows:
            there.row_folder(name, 0).mkdir(parents=True, exist_ok=True)
            answers = [Answered(each, "", n < of_rows.get(name, 3)) for n, each in enumerate(there.asked())]
            write_answers(answers, there.answers_file(name, 0))
    chosen = _chosen(arena, 1, lambda row: (row.name, row.against))  # type: ignore[arg-type, return-value]
    assert chosen is not None
    assert chosen.name == f"{CRLFT}, weight 0.3"
    assert chosen.validation == {CRLFT: 2 / 12, NO_REWARD: 3 / 12, chosen.name: 6 / 12}
    compared: Any = chosen.rows
    assert compared == [(row.name, chosen.name) for row in SIX]
    assert _chosen(replace(arena, split="validation"), 1, lambda row: None) is None  # type: ignore[arg-type, return-value]
    assert _chosen(replace(arena, rows={row.name: row for row in SIX}), 1, lambda row: None) is None  # type: ignore[arg-type, return-value]


@pytest.fixture(scope="module")
def ablation(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    return run_ablation(tmp_path_factory.mktemp("ablation") / "out", ROWS, SCALE, 1, "validation", LEVELS)  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_row_is_trained_alike_and_asked_everything(ablation: Ablation) -> None:
    folder = Path(ablation.output)
    configs = []
    for row, name in zip(ablation.rows, ("C_RLFT-0", "plain_SFT_on_everything-0"), strict=True):
        output = folder / "rows" / name
        result = json.loads((output / "result.json").read_text())
        assert (result["steps"], result["packs_consumed"]) == (3, 3)
        answers = [json.loads(line) for line in (output / "answers-validation.jsonl").read_text().splitlines()]
        assert [answer["level"] for answer in answers] == ["in"] * 12 + ["longer"] * 12 + ["phrasing"] * 12
        inside = [answer["right"] for answer in answers if answer["level"] == "in"]
        assert row.scores["in"].mean == sum(inside) / 12
        slips = [answer for answer in answers[:12] if answer["slip"] != answer["answer"]]
        assert len(slips) == 8
        assert row.scores["slips"].mean == sum(answer["right"] for answer in slips) / 8
        configs.append((output / "config.yaml").read_text())
    assert "condition: expert" in configs[0]
    assert "condition: expert" not in configs[1]
    assert (folder / "rows" / "C_RLFT-0" / "answers-validation-as-weak.jsonl").exists()


@pytest.mark.slow
def test_report_and_runs(ablation: Ablation) -> None:
    page = Path(ablation.report).read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "One seed only" in page
    assert all(row.name in page for row in ablation.rows)
    client = MlflowClient(f"sqlite:///{ablation.output}/mlflow.db")
    parent = client.get_run(str(ablation.mlflow_run_id))
    children = client.search_runs(
        [parent.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(child.info.status for child in children) == ["FINISHED", "FINISHED"]
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "ablation")} == {
        "ablation/report-validation.html", "ablation/ablation-validation.json",
    }  # fmt: skip


@pytest.mark.slow
def test_the_same_call_trains_nothing_again(ablation: Ablation) -> None:
    folder = Path(ablation.output)
    journal = folder / "tracking" / "study" / "trials.jsonl"
    before = journal.read_bytes()
    again = run_ablation(folder, ROWS, SCALE, 1, "validation", LEVELS)  # type: ignore[arg-type]
    assert again.rows == ablation.rows
    assert journal.read_bytes() == before
    with pytest.raises(UserError, match=f"also has '{EVERYTHING}' with seed 0; ask for at least"):
        run_ablation(folder, ROWS[:1], SCALE, 1, "validation", LEVELS)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_same_models_answer_another_split(ablation: Ablation) -> None:
    folder = Path(ablation.output)
    journal = folder / "tracking" / "study" / "trials.jsonl"
    before = journal.read_bytes(), Path(ablation.report).read_bytes()
    test = run_ablation(folder, ROWS, SCALE, 1, "test", LEVELS)  # type: ignore[arg-type]
    assert journal.read_bytes() == before[0]
    assert Path(ablation.report).read_bytes() == before[1]
    assert "to test problems" in Path(test.report).read_text()
    asked = [
        [json.loads(line)["questions"] for line in (folder / "rows/C_RLFT-0" / name).read_text().splitlines()]
        for name in ("answers.jsonl", "answers-as-weak.jsonl", "answers-validation.jsonl")
    ]
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.slow
@pytest.mark.long
def test_more_rows_are_added_to_those_that_are_there(ablation: Ablation) -> None:
    folder = Path(ablation.output)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("rows/*/answers-validation.jsonl")}
    assert len(before) == 2
    more = (*ROWS, next(row for row in SIX if row.name == NO_REWARD))
    after = run_ablation(folder, more, SCALE, 1, "validation", LEVELS)  # type: ignore[arg-type]
    assert after.rows[:2] == ablation.rows
    assert after.rows[2].name == NO_REWARD
    assert {path: path.stat().st_mtime_ns for path in before} == before
