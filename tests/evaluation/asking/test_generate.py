"""Written answers: greedy, and ended as soon as the verdict stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crlft_ray.assets.agieval import TASKS
from crlft_ray.evaluation.asking.engine import LONGEST_ANSWER, Engine, first_letter
from crlft_ray.evaluation.suites import Suite
from crlft_ray.evaluation.way import Way
from tests.evaluation.letter_models import SPACE, letter_suite, make_rows, write_model, write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("agieval")
    for task in TASKS:
        write_rows(folder, task, make_rows(task, 2))
    return replace(letter_suite(folder), name="agieval:generate", protocol="generate")


@pytest.mark.parametrize("adds_bos", [True, False])
def test_the_verdict_is_that_of_the_whole_greedy_answer(suite: Suite, tmp_path: Path, adds_bos: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = write_model(tmp_path / "model", SPACE, adds_bos=adds_bos)
    answers = Engine(model, precision="fp32", batch_size=3).ask(suite, Way("template", "GPT3"))
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    lengths = []
    for question, answer in zip(suite.questions, answers, strict=True):
        ids = tokenizer(f"<s>GPT3 user: {question.text}<|end|>GPT3 assistant:", add_special_tokens=False).input_ids
        output = network.generate(
            torch.tensor([ids]),
            # Without it the end of the user's turn, which is this model's padding, too, would not be seen.
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        whole = tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
        assert answer.chosen == first_letter(whole, tuple("ABCDEF"))
        assert answer.response is not None
        assert whole.startswith(answer.response.rstrip("�"))
        assert answer.value == (answer.chosen in question.gold)
        lengths.append((len(answer.response), len(whole)))
    assert any(ours < full for ours, full in lengths), "some were ended early"


def test_each_suite_has_its_letters(suite: Suite) -> None:
    question = suite.questions[0]
    assert suite.verdict_letters(question) == tuple("ABCDEF")
    assert replace(suite, name="bbh:generate").verdict_letters(question) == question.letters
