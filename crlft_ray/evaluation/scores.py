"""What the answers to a suite say about a model: scores, errors, chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.way import Way

# Two-sided 95 % point of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True)
class TaskScore:
    """Mean value on one task: the share of right answers, where an answer is right or wrong."""

    score: float
    stderr: float
    questions: int
    unanswerable: int
    """Questions whose right letter is not among their options: wrong for every model."""
    chance: float
    """What guessing is expected to score."""
    at_chance: bool
    """Whether the score's 95 % interval (Wilson) contains `chance`: nothing can be concluded from such a score."""


@dataclass(frozen=True)
class SuiteScore:
    """Scores of one model on one suite, asked in one way."""

    suite: str
    way: Way
    score: float
    """Mean over the tasks, each of the same weight."""
    stderr: float
    score_by_question: float
    """Share of right answers over all questions."""
    chance: float
    """Mean over the tasks' chance levels."""
    at_chance: bool
    """Whether `score` ± 1.96 `stderr` contains `chance`."""
    tasks: dict[str, TaskScore]
    answers: tuple[Answer, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_answers(cls, suite: str, way: Way, answers: Iterable[Answer]) -> SuiteScore:
        """Counts the answers; tasks keep the order in which they first occur."""
        answers = tuple(answers)
        by_task: dict[str, list[Answer]] = {}
        for answer in answers:
            by_task.setdefault(answer.task, []).append(answer)
        if not by_task:
            raise UserError(f"{suite}: no answers, so no score")
        tasks = {name: _task_score(group) for name, group in by_task.items()}
        count = len(tasks)
        score = sum(task.score for task in tasks.values()) / count
        stderr = math.sqrt(sum(task.stderr**2 for task in tasks.values())) / count
        chance = sum(task.chance for task in tasks.values()) / count
        return cls(
            suite=suite,
            way=way,
            score=score,
            stderr=stderr,
            score_by_question=sum(answer.value for answer in answers) / len(answers),
            chance=chance,
            at_chance=abs(score - chance) <= _Z * stderr,
            tasks=tasks,
            answers=answers,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON object without the answers, which have a file of their own."""
        data = {key: value for key, value in vars(self).items() if key != "answers"}
        return {**data, "way": str(self.way), "tasks": {name: asdict(task) for name, task in self.tasks.items()}}


def best_score(scores: Sequence[SuiteScore]) -> SuiteScore:
    """The highest score: a base model counts by the way of asking that suits it best; the first one of a tie.

    Raises:
        UserError: there is none, or they are not of the same questions.
    """
    if not scores:
        raise UserError("best_score: no scores given")
    if any((score.suite, _sizes(score)) != (scores[0].suite, _sizes(scores[0])) for score in scores):
        raise UserError("best_score: the scores are not of the same suite and number of questions")
    return max(scores, key=lambda score: score.score)


def _sizes(score: SuiteScore) -> dict[str, int]:
    return {name: task.questions for name, task in score.tasks.items()}


def _task_score(answers: Sequence[Answer]) -> TaskScore:
    count = len(answers)
    score = sum(answer.value for answer in answers) / count
    variance = sum((answer.value - score) ** 2 for answer in answers) / max(count - 1, 1)
    # The sample's standard deviation / sqrt(n), as lm-eval has it.
    stderr = math.sqrt(variance / count)
    chance = sum(answer.chance for answer in answers) / count
    only_right_or_wrong = all(answer.value in (0.0, 1.0) for answer in answers)
    low, high = wilson_interval(score, count) if only_right_or_wrong else (score - _Z * stderr, score + _Z * stderr)
    return TaskScore(
        score=score,
        stderr=stderr,
        questions=count,
        unanswerable=sum(bool(answer.letters) and not set(answer.gold) & set(answer.letters) for answer in answers),
        chance=chance,
        at_chance=low <= chance <= high,
    )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a binomial share; unlike ± 1.96 standard errors it holds for few answers and near 0 or 1."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return middle - half, middle + half
