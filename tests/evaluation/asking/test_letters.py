"""Letters by log-likelihood on small real models, against a direct computation with plain transformers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.assets.agieval import TASKS
from crlft_ray.config.train import Precision
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.asking.engine import Engine
from crlft_ray.evaluation.scores import SuiteScore
from crlft_ray.evaluation.way import Chat, Way
from tests.evaluation.letter_models import NEWLINE, SPACE, letter_suite, make_rows, write_model, write_rows

MakeModel = Callable[..., Path]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agieval")
    for task in TASKS:
        write_rows(folder, task, make_rows(task))
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Each call writes another model folder."""
    return lambda *args, **options: write_model(tmp_path / f"model-{len(list(tmp_path.iterdir()))}", *args, **options)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a hub fails the test."""

    def refuse(*address: object) -> None:
        raise AssertionError(f"tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def score_letters(
    model: Path,
    questions: Path,
    *,
    chat: Chat,
    condition: str | None = None,
    limit: int | None = None,
    precision: Precision = "fp32",
    **options: int,
) -> SuiteScore:
    way = Way(chat, condition)
    engine = Engine(model, precision=precision, **options)
    return SuiteScore.from_answers("agieval", way, engine.ask(letter_suite(questions, limit), way))


def direct(model: Path, prompts: dict[str, str], answers: tuple[Answer, ...], delimiter: str) -> list[list[float]]:
    """Each answer's log-likelihoods, one plain forward pass a letter; `prompts` by the question's id."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model)
    results = []
    for answer in answers:
        row = []
        for letter in answer.letters:
            prompt = prompts[answer.question]
            whole = prompt + delimiter + letter
            ids = tokenizer(whole, add_special_tokens=not prompt.startswith("<s>")).input_ids
            assert ids.count(tokenizer.bos_token_id) == (tokenizer("").input_ids == [tokenizer.bos_token_id])
            assert tokenizer.decode(ids[-1:]).strip() == letter
            with torch.no_grad():
                row.append(float(network(torch.tensor([ids])).logits[0, -2].log_softmax(-1)[ids[-1]]))
        results.append(row)
    return results


def prompts_of(folder: Path, render: Callable[[str], str]) -> dict[str, str]:
    return {question.id: render(question.text) for question in letter_suite(folder).questions}


def values(score: SuiteScore) -> list[list[float]]:
    return [list(answer.loglikelihoods) for answer in score.answers]


def assert_close(one: list[list[float]], two: list[list[float]]) -> None:
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("condition", [None, "GPT3", ""])
@pytest.mark.parametrize(("template", "adds_bos", "delimiter"), [(SPACE, True, " "), (NEWLINE, False, "")])
def test_template_scores_equal_a_direct_computation(
    make_model: MakeModel, questions: Path, template: str, adds_bos: bool, delimiter: str, condition: str | None
) -> None:
    model = make_model(template, adds_bos=adds_bos)
    score = score_letters(model, questions, chat="template", condition=condition, batch_size=3)
    named = "GPT4" if condition is None else condition

    def render(text: str) -> str:
        if template == SPACE:
            return f"<s>{named} user: {text}<|end|>{named} assistant:"
        return f"<|{named} user|>\n{text}<|end|>\n<|{named} assistant|>\n"

    expected = direct(model, prompts_of(questions, render), score.answers, delimiter)
    assert_close(values(score), expected)
    for answer, row in zip(score.answers, expected, strict=True):
        assert answer.chosen == answer.letters[row.index(max(row))]
    right = [answer.chosen in answer.gold for answer in score.answers]
    assert score.score_by_question == sum(right) / len(right) == pytest.approx(score.score)


@pytest.mark.slow
@pytest.mark.parametrize("adds_bos", [True, False])
def test_plain_scores_equal_a_direct_computation(make_model: MakeModel, questions: Path, adds_bos: bool) -> None:
    model = make_model(adds_bos=adds_bos)
    score = score_letters(model, questions, chat="none", batch_size=2)
    assert_close(values(score), direct(model, prompts_of(questions, str), score.answers, " "))


@pytest.mark.slow
def test_the_condition_matters_and_none_is_the_default(make_model: MakeModel, questions: Path) -> None:
    model = make_model()
    default, same, other = (
        score_letters(model, questions, chat="template", condition=condition) for condition in (None, "GPT4", "GPT3")
    )
    assert values(default) == values(same)
    for left, right in zip(values(same), values(other), strict=True):
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) > 1e-3


@pytest.mark.slow
def test_a_letter_merged_with_the_text_before_it(make_model: MakeModel, questions: Path) -> None:
    """': A' is one token and ': B' three: what is compared must begin at the same place of the text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_model(merges_letter=True)
    score = score_letters(model, questions, chat="template", limit=1)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    texts = prompts_of(questions, lambda text: f"<s>GPT4 user: {text}<|end|>GPT4 assistant")
    for answer in score.answers:
        before = len(tokenizer(texts[answer.question], add_special_tokens=False).input_ids)
        for letter, found in zip(answer.letters, answer.loglikelihoods, strict=True):
            ids = tokenizer(f"{texts[answer.question]}: {letter}", add_special_tokens=False).input_ids
            assert len(ids) == before + (1 if letter == "A" else 3)
            logprobs = network(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
            direct = sum(float(logprobs[place - 1, ids[place]]) for place in range(before, len(ids)))
            assert found == pytest.approx(direct, abs=2e-5)


@pytest.mark.slow
def test_limit_takes_the_same_questions_for_every_model(make_model: MakeModel, questions: Path) -> None:
    scores = [
        score_letters(make_model(SPACE, seed=1), questions, chat="template", limit=2),
        score_letters(make_model(NEWLINE, seed=2, adds_bos=False), questions, chat="none", limit=2),
    ]
    first, second = ([(answer.task, answer.question) for answer in score.answers] for score in scores)
    assert first == second
    assert len(first) == 2 * len(TASKS)
    assert values(scores[0]) != values(scores[1])


@pytest.mark.slow
def test_nothing_is_printed_and_nothing_stays_changed(
    make_model: MakeModel, questions: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    import torch

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    model, before = make_model(), torch.get_num_threads()
    capfd.readouterr()
    score_letters(model, questions, chat="template", limit=1, threads=before + 1)
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == before
    assert "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.slow
def test_contexts_with_a_passage_are_grouped() -> None:
    from crlft_ray.evaluation.asking.letter_lm import families

    system, passages = list(range(70)), [[1000 + n] * 600 for n in range(3)]
    contexts = [[*system, *passages[n % 3], *range(500, 510 + n), n] for n in range(9)]
    contexts += [[*system, 2000 + n, *[3000 + n] * 300] for n in range(4)] + [[5], [5], contexts[0]]
    groups = families(contexts)
    assert sorted(index for _, family in groups for index in family) == list(range(len(contexts)))
    assert [shared >= 670 for shared, _ in groups] == [True, True, True, False]
    assert groups[-1][0] == 0
    for shared, family in groups:
        assert len({tuple(contexts[index][:shared]) for index in family}) == 1
        assert min(len(contexts[index]) for index in family) > shared


@pytest.mark.slow
def test_models_that_cannot_be_asked_are_named(make_model: MakeModel, questions: Path, tmp_path: Path) -> None:
    no_template = make_model(None)
    deaf = make_model(SPACE.replace("condition | default('GPT4')", "'GPT4'"))
    thinks = make_model(SPACE.replace("assistant:{% endif", "assistant: <think>{% endif"))
    fails = make_model("{{ raise_exception('no users') }}")
    no_tokenizer, damaged = make_model(), make_model()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (no_tokenizer / name).unlink()
    (damaged / "model.safetensors").write_bytes(b"x")
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "nowhere", {}, "no model folder"),
        (no_template, {}, "no chat template"),
        (deaf, {"condition": "GPT3"}, "takes no condition"),
        (deaf, {"chat": "none", "condition": "GPT3"}, "no effect without the chat template"),
        (thinks, {}, "in another place"),
        (fails, {}, "no users"),
        (no_tokenizer, {}, "tokenizer cannot be loaded"),
        (damaged, {}, "weights cannot be loaded"),
        (deaf, {"batch_size": 0}, "batch_size: must be at least 1"),
    ]
    for model, options, message in cases:
        with pytest.raises(UserError, match=message):
            score_letters(model, questions, **{"chat": "template", "limit": 1, **options})
