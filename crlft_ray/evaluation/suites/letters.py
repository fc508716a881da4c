"""Suites of multiple-choice questions in one JSONL file a task: AGIEval and BBH."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from crlft_ray.errors import UserError
from crlft_ray.evaluation.suites.question import Question, grouped, identities

# One question of sat-en (and its twin without passage) has lost its right option; a file with more of them is broken.
_MAX_UNANSWERABLE = 0.01


def load_letters(folder: Path, tasks: tuple[str, ...], *, passages: bool) -> list[Question]:
    """The questions of `<folder>/<task>.jsonl` for each task; in each, in the order of their ids.

    Args:
        passages: whether what stands before "Q: " belongs to the question, and may be shared by several; otherwise it
            is the task's instruction.

    Raises:
        UserError: a file is missing, empty or broken; the message names it and the line.
    """
    found: list[Question] = []
    for task in tasks:
        found += sorted(_load_task(folder / f"{task}.jsonl", task), key=lambda question: question.id)
    return grouped(found) if passages else found


def _load_task(path: Path, task: str) -> list[Question]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `crlft fetch` brings the questions") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    rows = [_parse(lines[number - 1], f"{path}, line {number}") for number in numbers]
    if not rows:
        raise UserError(f"{path}: holds no questions")
    unanswerable = [number for number, (_, letters, gold) in zip(numbers, rows, strict=True) if gold[0] not in letters]
    if len(unanswerable) > _MAX_UNANSWERABLE * len(rows):
        raise UserError(
            f"{path}, line {unanswerable[0]}: the label is not among the question's options (so in {len(unanswerable)} "
            f"of {len(rows)} rows); it must be one of them"
        )
    ids = identities(text for text, _, _ in rows)
    return [
        Question(task, id, place, text, letters, gold, group=id)
        for place, (id, (text, letters, gold)) in enumerate(zip(ids, rows, strict=True))
    ]


def _parse(line: str, where: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be an object with question, label and options")
    text, label, options = (row.get(key) for key in ("question", "label", "options"))
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: 'question' must be a text that is not empty")
    if not _are_signs(options):
        raise UserError(f'{where}: \'options\' must be a list of different single characters, such as ["A", "B"]')
    if not _are_signs(label):
        raise UserError(f"{where}: 'label' must be a list of the right options, such as [\"B\"]")
    return text, tuple(options), tuple(label)


def _are_signs(value: Any) -> TypeGuard[list[str]]:
    signs = isinstance(value, list) and bool(value) and all(isinstance(sign, str) and len(sign) == 1 for sign in value)
    return signs and len(set(value)) == len(value)
