"""The world: exact shares, disjoint splits, a pure function of its values, and files that the project reads."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlft_ray.ablation import problems as problems_module
from crlft_ray.ablation import world as world_module
from crlft_ray.ablation.problems import problems
from crlft_ray.ablation.scale import FROZEN_WORLD
from crlft_ray.ablation.skills import SKILLS, Exercise
from crlft_ray.ablation.world import World, world_hash
from crlft_ray.conversations.clean import clean
from crlft_ray.conversations.formats import parse_row
from tests.conversations.reading import values

LEVELS = ("in", "longer", "phrasing")
SHARES = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.25, 0.5])


@settings(max_examples=20)
@given(expert=SHARES, middle=SHARES, mislabelled=st.sampled_from([0.0, 0.1, 0.2, 0.4]), seed=st.integers(0, 99))
def test_shares_are_exact(expert: float, middle: float, mislabelled: float, seed: int) -> None:
    samples = World(seed, 1200, expert, middle, mislabelled).samples()
    sources = Counter(sample.source for sample in samples)
    assert sources["expert"] == round(1200 * expert)
    assert sources["middle"] == round(1200 * middle)
    assert sum(sample.tag != sample.source for sample in samples) == round(1200 * mislabelled)
    assert {sample.tag for sample in samples} <= ({"expert", "middle", "weak"} if middle else {"expert", "weak"})


def test_worlds_of_one_seed_differ_in_the_answers_alone() -> None:
    shares = (0.01, 0.05, 0.2, 0.5)
    worlds = [World(seed=5, conversations=2400, expert_share=share).samples() for share in shares]
    for smaller, larger in pairwise(worlds):
        assert [sample.questions for sample in smaller] == [sample.questions for sample in larger]
        experts = [{n for n, each in enumerate(world) if each.source == "expert"} for world in (smaller, larger)]
        assert experts[0] < experts[1]
        assert all(one == other for one, other in zip(smaller, larger, strict=True) if one.source == other.source)


def test_a_world_is_a_pure_function_of_its_values() -> None:
    world = World(seed=8, conversations=1200, middle_share=0.2, mislabelled=0.1)
    assert world.samples() == World(seed=8, conversations=1200, middle_share=0.2, mislabelled=0.1).samples()
    assert world.samples() != World(seed=9, conversations=1200, middle_share=0.2, mislabelled=0.1).samples()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_question_of_an_evaluation_is_in_training(split: str) -> None:
    trained = {sample.questions[0] for seed in (0, 1) for sample in World(seed, 24_000).samples()}
    asked = [problem for level in LEVELS for problem in problems(split, level, 240)]  # type: ignore[arg-type]
    assert not trained & {problem.questions[0] for problem in asked}


def test_validation_and_test_are_disjoint_and_problems_occur_once() -> None:
    asked = [
        problem.questions
        for split in ("validation", "test")
        for level in LEVELS
        for problem in problems(split, level, 360)  # type: ignore[arg-type]
    ]
    assert len(set(asked)) == len(asked) == 6 * 360


def test_a_longer_list_of_problems_begins_with_the_shorter_one() -> None:
    assert problems("test", "in", 240)[:60] == problems("test", "in", 60)


def test_half_of_each_skills_problems_tempt_the_weak_source() -> None:
    found = problems("test", "in", 240)
    tempting = Counter(problem.skill for problem in found if problem.slip != problem.answer)
    assert tempting == {skill.name: 30 for skill in SKILLS}


def test_some_conversations_have_several_turns() -> None:
    turns = Counter(len(sample.questions) for sample in World(conversations=6000).samples())
    assert set(turns) == {1, 2, 3}
    assert 0.1 < (turns[2] + turns[3]) / 6000 < 0.25


def test_no_question_occurs_twice() -> None:
    samples = World(conversations=40_000).samples()
    assert len({sample.questions for sample in samples}) == len(samples)


@pytest.fixture
def only_few_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """One skill with about 700 questions in all: 140 sums in one wording, after each opener."""
    (addition,) = [skill for skill in SKILLS if skill.name == "addition"]

    def draw(rng: random.Random, longer: bool) -> Exercise:
        return addition.draw(random.Random(rng.randrange(140)), longer)

    few = replace(addition, draw=draw, wordings=addition.wordings[:1], follow=None)
    monkeypatch.setattr(world_module, "SKILLS", (few,))
    monkeypatch.setattr(problems_module, "SKILLS", (few,))


@pytest.mark.usefixtures("only_few_sums")
def test_too_large_a_world_is_refused() -> None:
    assert len(World(conversations=100).samples()) == 100
    with pytest.raises(ValueError, match="'addition' has no more questions"):
        World(conversations=1000).samples()


@pytest.mark.usefixtures("only_few_sums")
def test_more_problems_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 200 problems in test at level 'in': addition ends"):
        problems("test", "in", 200)


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="shares of all conversations"):
        World(expert_share=0.7, middle_share=0.4)


def test_the_project_reads_every_written_row(tmp_path: Path) -> None:
    world = World(seed=2, conversations=3000, middle_share=0.25, mislabelled=0.1)
    written = world.write(tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["expert.jsonl", "middle.jsonl", "weak.jsonl"]
    expected = Counter(sample.tag for sample in world.samples())
    for tag, path in written.items():
        rows = values(path)
        assert len(rows) == expected[tag]
        for row in rows:
            system, turns = parse_row(row, "messages", "learn")
            assert system == ""
            assert len(clean(turns)) == len(row["messages"])


def test_the_same_world_is_the_same_bytes(tmp_path: Path) -> None:
    first = World(seed=4, conversations=600).write(tmp_path / "a")
    second = World(seed=4, conversations=600).write(tmp_path / "b")
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]


def test_classes_of_an_earlier_world_do_not_stay(tmp_path: Path) -> None:
    World(conversations=600, middle_share=0.5).write(tmp_path)
    written = World(conversations=600).write(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written.values())


def test_the_hash_sees_problems_and_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world_hash()
    assert world_hash() == whole
    with monkeypatch.context() as patch:
        patch.setattr(world_module, "TEST_PROBLEMS", {"in": 599, "longer": 300, "phrasing": 300})
        assert world_hash() != whole
    with monkeypatch.context() as patch:
        patch.setattr(world_module, "_RULES", ("draw.py", "problems.py", "sources.py", "world.py"))
        assert world_hash() != whole


def test_the_world_is_the_frozen_one() -> None:
    # Where this fails, the README's figures are of another world: see `_check_frozen`.
    assert world_hash() == FROZEN_WORLD
