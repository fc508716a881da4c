"""A suite: its questions, and how their answers are taken from a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from crlft_ray.assets import asset_path
from crlft_ray.assets.agieval import TASKS as AGIEVAL_TASKS
from crlft_ray.assets.bbh import TASKS as BBH_TASKS
from crlft_ray.errors import UserError
from crlft_ray.evaluation.suites.letters import load_letters
from crlft_ray.evaluation.suites.question import Half, Question
from crlft_ray.evaluation.suites.tasks import is_task_folder, load_task_questions

Protocol = Literal["letters", "generate", "tasks"]
"""letters: the likeliest letter; generate: the first letter in a greedy answer; tasks: as lm-eval's task file says."""

SUITES = ("agieval", "bbh")
"""Suites of letters, fetched by name; `<name>:generate` asks for a written answer instead."""

_GENERATE = ":generate"


@dataclass(frozen=True)
class Suite:
    """What models are asked."""

    name: str
    """As the user named it, but for a folder's parents."""
    protocol: Protocol
    questions: tuple[Question, ...]
    folder: Path
    """With the tasks' files; absolute, as those who ask have another working folder."""

    @property
    def digest(self) -> str:
        """Tells this set of questions from every other one."""
        content = [self.protocol, *(f"{q.task} {q.id} {q.letters} {q.gold}" for q in self.questions)]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()

    def verdict_letters(self, question: Question) -> tuple[str, ...]:
        """The letters of which the first one in a written answer is its verdict, as the original evaluates them:
        AGIEval's A to F whatever the options are, elsewhere the question's options."""
        return tuple("ABCDEF") if self.name.startswith("agieval") else question.letters


def load_suites(names: Sequence[str], *, limit: int | None = None, half: Half | None = None) -> list[Suite]:
    """Loads suites that are asked together; arguments as `load_suite`.

    Raises:
        UserError: as `load_suite`; two have the same name, by which scores and answers are told apart.
    """
    found: dict[str, Suite] = {}
    for name in names:
        suite = load_suite(name, limit=limit, half=half)
        if suite.name in found:
            raise UserError(
                f"suite: '{name}' is the second one that is called '{suite.name}'; name each once, and rename a folder "
                "that has the name of another suite"
            )
        found[suite.name] = suite
    return list(found.values())


def load_suite(name: str, *, limit: int | None = None, half: Half | None = None) -> Suite:
    """Loads a suite by name or folder.

    Args:
        name: one of `SUITES`, one of them with ":generate", a fetched name, or a folder of lm-eval task files.
        limit: questions per task: those of the lowest ids, so the same ones for every model; None for all.
        half: only that half's questions; None for both.

    Raises:
        UserError: there is no such suite, or its questions cannot be read.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit: must be at least 1 question per task, not {limit}; leave it out for all")
    plain = name.removesuffix(_GENERATE)
    folder = asset_path(plain) or Path(plain).expanduser()
    if plain in SUITES:
        tasks, passages = (AGIEVAL_TASKS, True) if plain == "agieval" else (BBH_TASKS, False)
        protocol: Protocol = "letters" if plain == name else "generate"
        questions = load_letters(folder, tasks, passages=passages)
    elif plain == name and is_task_folder(folder):
        protocol, questions = "tasks", load_task_questions(folder)
    else:
        raise UserError(
            f"suite: '{name}' is none of {', '.join((*SUITES, *(f'{suite}{_GENERATE}' for suite in SUITES)))} and no "
            "folder with lm-eval task files (*.yaml)"
        )
    asked: list[Question] = []
    for task in dict.fromkeys(question.task for question in questions):
        mine = [q for q in questions if q.task == task and (half is None or q.half == half)]
        asked += mine if limit is None else sorted(mine, key=lambda question: question.id)[:limit]
    return Suite(name if plain in SUITES else PurePath(plain).name, protocol, tuple(asked), folder.absolute())
