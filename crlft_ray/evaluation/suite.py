"""What a suite of multiple-choice questions says about a model: answers, scores, errors, chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from crlft_ray.errors import UserError

Chat = Literal["template", "none"]

# Two-sided 95 % point of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Question:
    """One question as it is asked."""

    task: str
    id: str
    """Hash of the text; a text's second occurrence in a task gets '-2'."""
    text: str
    letters: tuple[str, ...]
    """The answers that are compared."""
    gold: str
    """The right letter; not among `letters` in the rare question that has lost its right option."""


@dataclass(frozen=True)
class Answer:
    """What a model answered to one question."""

    task: str
    question: str
    """The question's id."""
    gold: str
    chosen: str
    """The letter of the highest log-likelihood; the first one of a tie."""
    letters: tuple[str, ...]
    loglikelihoods: tuple[float, ...]
    """Natural logarithm of each letter's probability after the prompt, in the order of `letters`."""

    @property
    def right(self) -> bool:
        """Whether the chosen letter is the right one."""
        return self.chosen == self.gold


@dataclass(frozen=True)
class TaskScore:
    """Accuracy on one task."""

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
    chat: Chat
    condition: str | None
    """Condition given to the chat template; None: the template's default."""
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
    def from_answers(cls, suite: str, chat: Chat, condition: str | None, answers: Iterable[Answer]) -> SuiteScore:
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
            chat=chat,
            condition=condition,
            score=score,
            stderr=stderr,
            score_by_question=sum(answer.right for answer in answers) / len(answers),
            chance=chance,
            at_chance=abs(score - chance) <= _Z * stderr,
            tasks=tasks,
            answers=answers,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON object without the answers; `answer_rows` gives those."""
        data = {key: value for key, value in vars(self).items() if key != "answers"}
        return {**data, "tasks": {name: asdict(task) for name, task in self.tasks.items()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any], answers: Iterable[dict[str, Any]] = ()) -> SuiteScore:
        """The inverse of `to_dict`; `answers` are the rows of `answer_rows`."""
        tasks = {name: TaskScore(**task) for name, task in data["tasks"].items()}
        rows = (
            {**row, "letters": tuple(row["letters"]), "loglikelihoods": tuple(row["loglikelihoods"])} for row in answers
        )
        return cls(**{**data, "tasks": tasks, "answers": tuple(Answer(**row) for row in rows)})

    def answer_rows(self) -> list[dict[str, Any]]:
        """One flat record an answer, of the same columns: `pyarrow.Table.from_pylist` takes them."""
        return [
            {**vars(answer), "letters": list(answer.letters), "loglikelihoods": list(answer.loglikelihoods)}
            for answer in self.answers
        ]


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
    score = sum(answer.right for answer in answers) / count
    chance = sum(1 / len(answer.letters) for answer in answers if answer.gold in answer.letters) / count
    low, high = wilson_interval(score, count)
    return TaskScore(
        score=score,
        # The sample's standard deviation / sqrt(n), as lm-eval has it.
        stderr=math.sqrt(score * (1 - score) / max(count - 1, 1)),
        questions=count,
        unanswerable=sum(answer.gold not in answer.letters for answer in answers),
        chance=chance,
        at_chance=low <= chance <= high,
    )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a binomial share; unlike ± 1.96 standard errors it holds for few answers and near 0 or 1."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return middle - half, middle + half
