"""AGIEval: the eight English tasks, by log-likelihood of the answer letters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from crlft_ray.assets.agieval import TASKS
from crlft_ray.errors import UserError
from crlft_ray.evaluation.suite import Chat, Question, SuiteScore

# One question of sat-en (and its twin without passage) has lost its right option; a file with more of them is broken.
_MAX_UNANSWERABLE = 0.01


def score_agieval(
    model: Path,
    questions: Path,
    *,
    chat: Chat,
    condition: str | None = None,
    limit: int | None = None,
    threads: int = 1,
    precision: Literal["bf16", "fp32"] = "bf16",
    batch_size: int = 4,
) -> SuiteScore:
    """Scores a model folder on the questions of a folder with one `<task>.jsonl` for each of `TASKS`.

    Each question is put as the user message of the model's chat template (`chat="template"`) or as plain text
    (`"none"`), and the answer is the letter that the model finds likeliest next. Nothing is looked up on a hub.

    Args:
        model: folder with weights, config and tokenizer.
        questions: folder with the tasks' files.
        chat: how the question is put.
        condition: given to the chat template; None leaves the template's default.
        limit: questions per task; they are the first ones by their hash, so the same for every model.
        threads: CPU threads of torch.
        precision: number format of the weights.
        batch_size: questions in one forward pass.

    Raises:
        UserError: the model folder, the chat template, the condition or the questions are not usable, or lm-eval is
            not installed.
    """
    asked = [question for task in TASKS for question in load_questions(questions, task, limit)]

    from crlft_ray.evaluation.lm_eval_engine import answer_questions

    answers = answer_questions(
        model,
        asked,
        chat=chat,
        condition=condition,
        threads=threads,
        precision=precision,
        batch_size=batch_size,
    )
    return SuiteScore.from_answers("agieval", chat, condition, answers)


def load_questions(folder: Path, task: str, limit: int | None = None) -> list[Question]:
    """The questions of `<folder>/<task>.jsonl` in the order of their hash, at most `limit` of them.

    Raises:
        UserError: the file is missing, empty or broken; the message names it and the line.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit: must be at least 1 question per task, not {limit}; leave it out for all")
    path = folder / f"{task}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `crlft fetch agieval` brings the questions") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    questions: list[Question] = []
    seen: dict[str, int] = {}
    unanswerable: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, letters, gold = _parse(line, f"{path}, line {number}")
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        identity = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        questions.append(Question(task, identity, text, letters, gold))
        if gold not in letters:
            unanswerable.append(number)
    if not questions:
        raise UserError(f"{path}: holds no questions")
    if len(unanswerable) > _MAX_UNANSWERABLE * len(questions):
        raise UserError(
            f"{path}, line {unanswerable[0]}: the label is not among the question's options (so in {len(unanswerable)} "
            f"of {len(questions)} rows); it must be one of their letters, A for the first"
        )
    return sorted(questions, key=lambda question: question.id)[:limit]


def _parse(line: str, where: str) -> tuple[str, tuple[str, ...], str]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be an object with question, label and options")
    text, label, options = row.get("question"), row.get("label"), row.get("options")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: 'question' must be a text that is not empty")
    if not isinstance(options, list) or not 2 <= len(options) <= 26:
        raise UserError(f"{where}: 'options' must be a list of 2 to 26")
    if not isinstance(label, list) or len(label) != 1 or not _is_letter(label[0]):
        raise UserError(f"{where}: 'label' must be a list of one capital letter, such as [\"B\"]")
    return text, tuple(chr(ord("A") + index) for index in range(len(options))), label[0]


def _is_letter(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and "A" <= value <= "Z"
