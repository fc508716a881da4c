"""Puts questions to a model folder through lm-eval, offline and without its output."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from crlft_ray.errors import UserError
from crlft_ray.evaluation.suite import Answer, Chat, Question

# A content that no template writes by itself, to find where the answer starts in a rendered conversation.
_PROBE = "Qz7AnswerProbe7zQ"


def answer_questions(
    model: Path,
    questions: Sequence[Question],
    *,
    chat: Chat,
    condition: str | None,
    threads: int,
    precision: Literal["bf16", "fp32"],
    batch_size: int,
) -> list[Answer]:
    """The log-likelihood of each question's letters, in the order of the questions' tasks.

    Raises:
        UserError: the folder holds no usable model, its chat template does not fit `chat` and `condition`, or lm-eval
            is not installed.
    """
    if chat == "none" and condition is not None:
        raise UserError("condition: has no effect without the chat template; use chat='template' or drop it")
    for name, value in (("threads", threads), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name}: must be at least 1, not {value}")
    with _quiet_and_offline(), _torch_threads(threads):
        try:
            import lm_eval.evaluator
        except ImportError as error:
            raise UserError(f"evaluation needs lm-eval: pip install 'crlft-ray[eval]' ({error})") from None
        network, tokenizer = _load(model, precision)
        variables = {} if condition is None else {"condition": condition}
        delimiter = answer_delimiter(tokenizer, variables, model) if chat == "template" else " "

        from crlft_ray.evaluation.letter_lm import LetterLM

        engine = LetterLM(pretrained=network, tokenizer=tokenizer, batch_size=batch_size, chat_template_args=variables)
        report = lm_eval.evaluator.evaluate(
            lm=engine,
            task_dict={"tasks": _tasks(questions, delimiter), "groups": {}},
            apply_chat_template=chat == "template",
            bootstrap_iters=0,
            log_samples=True,
        )
    return [_answer(task, sample) for task, samples in report["samples"].items() for sample in samples]


def answer_delimiter(tokenizer: Any, variables: dict[str, str], where: Path) -> str:
    """What the chat template writes between its generation prompt and an assistant's text: '' or ' ' as a rule.

    Raises:
        UserError: there is no template, it does not know the condition, or it writes answers in another place than
            the generation prompt prepares.
    """
    import jinja2

    if not tokenizer.chat_template:
        raise UserError(f"{where}: its tokenizer has no chat template; score it with chat='none'")
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
            f"{where}: its chat template writes an answer in another place than its generation prompt prepares; score "
            f"it with chat='none'"
        )
    return whole[len(prompt) : whole.index(_PROBE)]


def _tasks(questions: Sequence[Question], delimiter: str) -> dict[str, Any]:
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
    for question in questions:
        # lm-eval drops target_delimiter where a chat template is used, so the delimiter is part of the choices.
        choices = [delimiter + letter for letter in question.letters]
        gold = question.letters.index(question.gold) if question.gold in question.letters else -1
        row = {"id": question.id, "text": question.text.strip(), "label": question.gold, "gold": gold}
        by_task.setdefault(question.task, []).append({**row, "choices": choices, "letters": list(question.letters)})
    config = {
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "text",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    return {name: Task(config={"task": name, **config}) for name in by_task}


def _answer(task: str, sample: dict[str, Any]) -> Answer:
    doc = sample["doc"]
    loglikelihoods = tuple(float(loglikelihood) for loglikelihood, _ in sample["filtered_resps"])
    chosen = max(range(len(loglikelihoods)), key=loglikelihoods.__getitem__)
    return Answer(
        task=task,
        question=doc["id"],
        gold=doc["label"],
        chosen=doc["letters"][chosen],
        letters=tuple(doc["letters"]),
        loglikelihoods=loglikelihoods,
    )


def _load(model: Path, precision: Literal["bf16", "fp32"]) -> tuple[Any, Any]:
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
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """No hub, no progress bars, no log lines below errors from lm-eval; as before afterwards."""
    from transformers.utils import logging as transformers_logging

    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in offline}
    logger, bars = logging.getLogger("lm_eval"), transformers_logging.is_progress_bar_enabled()
    level = logger.level
    os.environ.update(offline)
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
