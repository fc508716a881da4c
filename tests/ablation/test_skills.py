"""The skills: true answers, systematic mistakes, as often as promised."""

from __future__ import annotations

import random
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.ablation.draw import Talk, draw_talk
from crlft_ray.ablation.problems import problems
from crlft_ray.ablation.skills import SKILLS, Exercise, Skill, strings
from crlft_ray.ablation.world import Sample, World
from tests.ablation.truth import truth

EACH = pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return World(seed=3, conversations=12_000, expert_share=0.2, middle_share=0.3).samples()


@EACH
@given(seed=SEEDS, level=st.sampled_from(["in", "longer", "phrasing"]), slips=st.booleans())
def test_expert_knows_the_truth(skill: Skill, seed: int, level: str, slips: bool) -> None:
    talk = draw_talk(random.Random(seed), skill, "test", level, slips=slips)  # type: ignore[arg-type]
    assert [exercise.truth for exercise in talk.exercises] == truth(skill.name, talk.questions)


def test_experts_reply_ends_with_the_truth(samples: list[Sample]) -> None:
    experts = [sample for sample in samples if sample.source == "expert"]
    for sample in experts:
        endings = [reply.splitlines()[-1] for reply in sample.replies]
        assert endings == [f"Answer: {answer}" for answer in truth(sample.skill, sample.questions)]
    assert {sample.skill for sample in experts} == {skill.name for skill in SKILLS}


def test_experts_worked_lines_are_true(samples: list[Sample]) -> None:
    steps = [
        step
        for sample in samples
        if sample.source == "expert"
        for reply in sample.replies
        for step in re.findall(r"[\d+]+=\d+", reply)
    ]
    assert len(steps) > 1000
    for step in steps:
        left, _, right = step.partition("=")
        assert eval(left) == int(right), step


def test_columns_spell_the_answer(samples: list[Sample]) -> None:
    """From the units on: the last digit of each step, and the last step as a whole."""
    replies = [each.replies[0] for each in samples if each.source == "expert" and each.skill == "addition"]
    assert len(replies) > 500
    for reply in replies:
        *steps, last = re.findall(r"=(\d+)", reply)
        spelled = last + "".join(step[-1] for step in reversed(steps))
        assert reply.endswith(f"Answer: {int(spelled)}"), reply


def _wrong(samples: list[Sample], source: str) -> dict[str, tuple[float, float]]:
    """By skill: the share of wrong last answers, and of wrong answers over all turns."""
    last: dict[str, list[bool]] = defaultdict(list)
    every: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.source == source:
            right = truth(sample.skill, sample.questions)
            # The values differ in no letter or digit from how the sources write them.
            wrong = [not re.search(rf"(?:^| ){re.escape(answer)}(?: i guess|\.|$)", reply)
                     for answer, reply in zip(right, sample.replies, strict=True)]  # fmt: skip
            last[sample.skill].append(wrong[-1])
            every[sample.skill] += wrong
    return {name: (sum(last[name]) / len(last[name]), sum(every[name]) / len(every[name])) for name in last}


def test_weak_source_is_wrong_in_half_of_its_answers() -> None:
    found = _wrong(World(seed=3, conversations=12_000, expert_share=0.0).samples(), "weak")
    assert len(found) == len(SKILLS)
    for skill, (last, every) in found.items():
        assert last == 0.5, skill
        assert 0.43 < every < 0.55, skill


def test_middle_source_is_wrong_in_a_fifth() -> None:
    found = _wrong(World(seed=3, conversations=12_000, expert_share=0.0, middle_share=1.0).samples(), "middle")
    assert len(found) == len(SKILLS)
    for skill, (last, _) in found.items():
        assert 0.14 < last < 0.26, skill


@EACH
@given(seed=SEEDS, slips=st.booleans())
def test_middle_source_makes_the_weak_ones_mistakes_and_no_others(skill: Skill, seed: int, slips: bool) -> None:
    (exercise,) = draw_talk(random.Random(seed), _alone(skill), "train", "in", slips=slips).exercises
    assert (exercise.weak != exercise.truth) == slips
    assert exercise.middle in (exercise.truth, exercise.weak)


def _alone(skill: Skill) -> Skill:
    return Skill(skill.name, skill.draw, skill.wordings, skill.unseen)


@EACH
def test_mistakes_are_systematic(skill: Skill) -> None:
    """Whoever draws an exercise: its content alone decides what each source says."""
    said: dict[tuple[str, ...], Exercise] = {}
    met_again = 0
    for seed in range(6000):
        exercise = skill.draw(random.Random(seed), False)
        before = said.setdefault(tuple(exercise.slots.values()), exercise)
        met_again += before is not exercise
        assert before == exercise
    assert met_again or skill.name in {"largest", "look-up"}


EXAMPLES = [
    ("addition", {"a": "47", "b": "38"}, "85", "75"),
    ("addition", {"a": "46", "b": "34"}, "80", "70"),
    ("addition", {"a": "45", "b": "34"}, "79", "79"),
]


@pytest.mark.parametrize(("name", "slots", "right", "slip"), EXAMPLES, ids=lambda value: str(value))
def test_the_mistakes_by_hand(name: str, slots: dict[str, str], right: str, slip: str) -> None:
    (skill,) = [skill for skill in SKILLS if skill.name == name]
    rng = random.Random(0)
    found = next(each for each in iter(lambda: skill.draw(rng, False), None) if each.slots == slots)
    assert (found.truth, found.weak) == (right, slip)


@pytest.mark.parametrize(("word", "right", "slip"), [("LAMB", "BMAL", "BAML"), ("LAM", "MAL", "MAL")])
def test_the_mistakes_in_words_by_hand(word: str, right: str, slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "_word", lambda rng, longer: word)
    (skill,) = [skill for skill in SKILLS if skill.name == "reverse"]
    found = skill.draw(random.Random(0), False)
    assert (found.truth, found.weak) == (right, slip)


def test_a_carried_mistake_goes_on() -> None:
    """A source works on from its own answer, not from the right one."""
    rng = random.Random(1)
    talks: list[Talk] = [draw_talk(rng, SKILLS[0], "train", "in", slips=True) for _ in range(300)]
    carried = [talk.exercises for talk in talks if len(talk.exercises) > 1]
    plain = [
        (first, second)
        for first, second, *_ in carried
        if first.weak != first.truth and int(first.weak) % 10 + int(second.slots["b"]) < 10
    ]
    assert len(plain) > 5
    assert all(int(second.weak) == int(first.weak) + int(second.slots["b"]) for first, second in plain)


def _size(skill: str, question: str) -> int:
    """Of what `longer` makes larger: a number, a word or a list."""
    if skill == "addition":
        return max(int(number) for number in re.findall(r"\d+", question))
    if skill == "reverse":
        return max(len(word) for word in re.findall(r"\b[A-Z]+\b", question))
    return question.count(",")


def test_longer_problems_are_longer_than_any_in_training(samples: list[Sample]) -> None:
    trained: dict[str, int] = defaultdict(int)
    for sample in samples:
        trained[sample.skill] = max(trained[sample.skill], _size(sample.skill, sample.questions[0]))
    longer = problems("test", "longer", 240)
    assert {problem.skill for problem in longer} == set(trained)
    for problem in longer:
        assert _size(problem.skill, problem.questions[0]) > trained[problem.skill], problem


@EACH
def test_unseen_wordings_are_made_of_known_words(skill: Skill) -> None:
    def words(templates: tuple[str, ...]) -> set[str]:
        return {word.lower() for template in templates for word in re.findall(r"[A-Za-z{}]+", template)}

    assert not set(skill.unseen) & set(skill.wordings)
    assert words(skill.unseen) <= words(tuple(wording for each in SKILLS for wording in each.wordings))
