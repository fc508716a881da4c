"""Scores of models on suites; no question is put to a model twice."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from crlft_ray.config.paths import absolute_model
from crlft_ray.config.train import Precision
from crlft_ray.device import native_precision
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer, AnswerFile
from crlft_ray.evaluation.asking.pool import Asked, ask_all
from crlft_ray.evaluation.class_report import load_tokenizer
from crlft_ray.evaluation.scores import SuiteScore, best_score
from crlft_ray.evaluation.suites import Question, Suite
from crlft_ray.evaluation.way import Way
from crlft_ray.export.provenance import read_provenance
from crlft_ray.model.find import model_folder
from crlft_ray.storage import Place

log = logging.getLogger(__name__)

_SAY_EVERY_S = 20.0


def score_models(
    models: Sequence[str],
    suites: Sequence[Suite],
    answers: Place,
    *,
    condition: str | None = None,
    threads: int = 1,
    precision: Precision | None = None,
) -> list[dict[str, SuiteScore]]:
    """Puts what is not answered yet in `answers` to the models, and scores every suite. Ray must be connected.

    A model of this project is asked under its default condition, or that of a class. Any other one is asked with its
    own chat template and with none, and the better of the two counts.

    Args:
        models: whatever `model_folder` takes.
        suites: what they are asked.
        answers: folder in which answers are kept.
        condition: a class of the models', or "none" for no condition; None for a model's default.
        threads: CPU threads of a worker.
        precision: number format of the weights; None for the one that the cluster is fast in.

    Returns:
        for each model the scores by suite.

    Raises:
        UserError: a model cannot be loaded, or not be asked in this way.
    """
    precision = precision or native_precision()
    named = {model: absolute_model(model) for model in models}
    folders = {named[model]: model_folder(model) for model in models}
    sheets = {
        asked: _Sheet(asked, AnswerFile(answers, _key(folders[asked.model], asked, precision)))
        for model in folders
        for suite in suites
        for asked in (Asked(model, suite, way) for way in _ways(folders[model], condition))
    }
    missing = {asked: left for asked, sheet in sheets.items() if (left := sheet.missing())}
    progress = _Progress(sum(len(asked.suite.questions) for asked in sheets), sum(map(len, missing.values())))

    def take(asked: Asked, found: list[Answer]) -> None:
        sheets[asked].take(found)
        progress.add(len(found))

    if missing:
        ask_all(missing, take, threads=threads, precision=precision)
    scores: dict[tuple[str, str], list[SuiteScore]] = {}
    for asked, sheet in sheets.items():
        scores.setdefault((asked.model, asked.suite.name), []).append(sheet.score())
    return [{suite.name: best_score(scores[named[model], suite.name]) for suite in suites} for model in models]


class _Sheet:
    """The answers of one model to one suite, asked in one way: those that are kept, and those that come in."""

    def __init__(self, asked: Asked, file: AnswerFile) -> None:
        self._asked, self._file, self._complete = asked, file, True
        questions = {(question.task, question.id): question for question in asked.suite.questions}
        self._answers: dict[tuple[str, str], Answer] = {}
        for answer in file.read():
            question = questions.get((answer.task, answer.question))
            # A question whose right answer or group has changed is asked again.
            if question is None or (question.gold, question.group) == (answer.gold, answer.group):
                self._answers[answer.task, answer.question] = answer

    def missing(self) -> list[Question]:
        """What is not answered yet."""
        return [q for q in self._asked.suite.questions if (q.task, q.id) not in self._answers]

    def take(self, found: list[Answer]) -> None:
        """Keeps answers as they come in."""
        self._complete = False
        self._file.add(found)
        self._answers.update({(answer.task, answer.question): answer for answer in found})

    def score(self) -> SuiteScore:
        """With all questions answered."""
        if not self._complete:
            self._file.complete(list(self._answers.values()))
        mine = [self._answers[question.task, question.id] for question in self._asked.suite.questions]
        return SuiteScore.from_answers(self._asked.suite.name, self._asked.way, mine)


def _ways(folder: Path, condition: str | None) -> list[Way]:
    provenance = read_provenance(folder)
    if provenance is not None:
        return [Way("template", None if condition is None else provenance.condition(condition))]
    template = [Way("template")] if load_tokenizer(str(folder)).chat_template else []
    return [*template, Way("none")]


def _key(folder: Path, asked: Asked, precision: Precision) -> str:
    """Name of an answers file: who was asked what, and how."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        # A model of another name may be the same; what was trained again at the same place has other times.
        weights = path.suffix in (".safetensors", ".bin", ".gguf")
        content = f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode() if weights else path.read_bytes()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    way = str(asked.way).replace(" ", "-").replace(",", "").replace("/", "-")
    suite = asked.suite.name.replace(":", "-")
    return f"{digest.hexdigest()[:12]}-{suite}-{way}-{precision}"


class _Progress:
    """Says now and then how far the asking is."""

    def __init__(self, size: int, missing: int) -> None:
        self._all, self._done = missing, 0
        self._began = self._said = time.monotonic()
        if missing:
            already = f", {size - missing:,} are answered already" if size > missing else ""
            log.info("asking %s questions%s", f"{missing:,}", already)

    def add(self, count: int) -> None:
        """`count` more are answered."""
        self._done += count
        now = time.monotonic()
        if now - self._said > _SAY_EVERY_S and self._done < self._all:
            self._said = now
            left = (now - self._began) / self._done * (self._all - self._done)
            log.info("  %s of %s answered, %d:%02d left", f"{self._done:,}", f"{self._all:,}", left // 60, left % 60)


def check_condition(models: Sequence[str], condition: str | None) -> None:
    """Raises UserError where a condition is given and none of the models takes it."""
    if condition is None:
        return
    known = [provenance for model in models if (provenance := read_provenance(model_folder(model))) is not None]
    if not known:
        raise UserError(
            "condition: none of these models was trained with conditions (a folder that `crlft train` exports holds "
            "crlft.json); leave the condition out"
        )
    for provenance in known:
        provenance.condition(condition)
