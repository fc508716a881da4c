"""Answers of a model to questions, kept so that every disagreement can be read and no question is asked twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from crlft_ray.errors import UserError
from crlft_ray.evaluation.suites import Half, Question
from crlft_ray.storage import Place

SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("half", pa.string(), nullable=False),
        pa.field("gold", pa.list_(pa.string()), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("chance", pa.float64(), nullable=False),
        pa.field("letters", pa.list_(pa.string()), nullable=False),
        pa.field("loglikelihoods", pa.list_(pa.float64()), nullable=False),
        pa.field("response", pa.string()),
    ]
)


@dataclass(frozen=True)
class Answer:
    """What a model answered to one question; the columns of an answers file."""

    task: str
    question: str
    """The question's id."""
    group: str
    half: Half
    gold: tuple[str, ...]
    chosen: str
    """The letter of the highest log-likelihood (the first one of a tie), or what was found in a written answer."""
    value: float
    """1 for a right answer and 0 for a wrong one; another metric's value in a suite of the user's."""
    chance: float
    """What guessing is expected to get."""
    letters: tuple[str, ...] = ()
    loglikelihoods: tuple[float, ...] = ()
    """Natural logarithm of each letter's probability after the prompt, in the order of `letters`."""
    response: str | None = None
    """The text that was generated, where one was."""


def answer_to(question: Question, chosen: str, value: float | None = None, **found: Any) -> Answer:
    """The answer to a question; without a `value`, 1 where `chosen` is right."""
    right = float(chosen in question.gold) if value is None else value
    return Answer(
        question.task,
        question.id,
        question.group,
        question.half,
        question.gold,
        chosen,
        right,
        question.chance,
        **found,
    )


def to_arrow(answers: Iterable[Answer]) -> bytes:
    """An Arrow IPC file of `SCHEMA`, a row an answer."""
    table = pa.Table.from_pylist([vars(answer) for answer in answers], SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_arrow(content: bytes, where: str) -> list[Answer]:
    """The inverse of `to_arrow`.

    Raises:
        UserError: `where` holds something else.
    """
    try:
        table = pa.ipc.open_file(content).read_all()
        rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
        raise UserError(f"{where}: holds no answers of an evaluation: {error}") from None
    tuples = ("gold", "letters", "loglikelihoods")
    return [Answer(**{**row, **{name: tuple(row[name]) for name in tuples}}) for row in rows]


class AnswerFile:
    """The answers of one model to one suite, asked in one way.

    While they come in they are small files in a folder of their own; when all are there, one file. A process that
    dies leaves whole files only, and the next one asks for what is missing.
    """

    def __init__(self, folder: Place, key: str) -> None:
        self._whole = folder / f"{key}.arrow"
        self._parts = folder / f"{key}.parts"

    def read(self) -> list[Answer]:
        """All answers so far."""
        files = [self._whole] if self._whole.exists() else []
        if self._parts.is_folder():
            files += [part for part in self._parts.children() if part.name.endswith(".arrow")]
        return [answer for file in files for answer in from_arrow(file.read_bytes(), str(file))]

    def add(self, answers: Sequence[Answer]) -> None:
        """Keeps some more."""
        self._parts.make_folder()
        # Named after its content: answers that come twice are kept once.
        (self._parts / f"{answers[0].task}-{answers[0].question}.arrow").write_bytes(to_arrow(answers))

    def complete(self, answers: Sequence[Answer]) -> None:
        """Puts all of them into one file."""
        self._whole.write_bytes(to_arrow(answers))
        self._parts.remove()
