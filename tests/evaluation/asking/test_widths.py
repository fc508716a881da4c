"""Letters against lm-eval's own class: whatever is asked beside a question, and wherever its passage was read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.config.train import Precision
from tests.evaluation.letter_models import write_model

BATCH = 3
DTYPES: dict[Precision, str] = {"bf16": "bfloat16", "fp32": "float32"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("widths") / "model", hidden=256)


def contexts_of(seed: int) -> list[list[int]]:
    """Token ids of questions: long and short ones, some on passages of several lengths, one of them twice."""
    dice = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [dice.randrange(2, 300) for _ in range(length)]

    passages = [ids(length) for length in (70, 150, 300, 520, 900)]
    asked = [[*passage, *ids(dice.randint(5, 60))] for passage in passages for _ in range(4)]
    asked += [ids(dice.randint(20, 1000)) for _ in range(20)]
    return [*asked, asked[0]]


def by_lm_eval(model: Path, contexts: list[list[int]], letters: list[int], precision: Precision) -> list[list[float]]:
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(
        pretrained=str(model), dtype=DTYPES[precision], batch_size=BATCH, device="cpu", softmax_dtype="float32"
    )
    pairs = [
        ((str(place), str(letter)), context, [letter]) for place, context in enumerate(contexts) for letter in letters
    ]
    found = [value for value, _ in theirs._loglikelihood_tokens(pairs, disable_tqdm=True)]
    return [found[first : first + len(letters)] for first in range(0, len(found), len(letters))]


def ours(model: Path, precision: Precision) -> Any:
    from crlft_ray.evaluation.asking.letter_lm import LetterLM

    return LetterLM(pretrained=str(model), dtype=DTYPES[precision], batch_size=BATCH, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_part_gives_lm_evals_numbers_for_the_whole(model: Path, precision: Precision) -> None:
    import torch

    from crlft_ray.evaluation.asking.attention import padded_widths

    contexts, letters = contexts_of(1), [40, 41, 42]
    expected = by_lm_eval(model, contexts, letters, precision)
    language_model = ours(model, precision)
    language_model.use_widths(padded_widths(contexts, BATCH))
    # fp32 products, and bf16 ones that the CPU cannot multiply, are summed in an order that depends on their number.
    exact = precision == "bf16" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    for part in (list(range(len(contexts))), list(range(0, len(contexts), 2)), [3], [39, 5, 0, 40]):
        found = dict(language_model._next_token([contexts[place] for place in part]))
        for here, place in enumerate(part):
            values = [float(found[here][letter]) for letter in letters]
            assert values == (expected[place] if exact else pytest.approx(expected[place], abs=2e-2)), place


@pytest.mark.slow
def test_a_passage_is_computed_once_and_the_model_is_as_before(model: Path) -> None:
    from crlft_ray.evaluation.asking.attention import padded_widths

    contexts = contexts_of(2)
    language_model = ours(model, "fp32")
    language_model.use_widths(padded_widths(contexts, BATCH))
    tokens, forward = [], language_model.model.forward

    def counted(*args: Any, **options: Any) -> Any:
        tokens.append(options["input_ids"].numel())
        return forward(*args, **options)

    language_model._keep = lambda positions: {"logits_to_keep": positions}  # asks the function that `counted` hides
    language_model.model.forward = counted
    on_passages = contexts[12:20]  # those of 520 and 900 tokens
    list(language_model._next_token(on_passages))
    assert sum(tokens) < 0.5 * sum(map(len, on_passages))
    assert language_model.model.config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_a_sliding_window_is_the_models_own(model: Path, tmp_path: Path) -> None:
    import shutil

    from transformers import MistralConfig, MistralForCausalLM

    sliding = tmp_path / "sliding"
    shutil.copytree(model, sliding)
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, sliding_window=64, initializer_range=0.3,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(sliding)
    contexts, letters = contexts_of(3), [40, 41]
    found = dict(ours(sliding, "fp32")._next_token(contexts))
    expected = by_lm_eval(sliding, contexts, letters, "fp32")
    for place, values in enumerate(expected):
        assert [float(found[place][letter]) for letter in letters] == pytest.approx(values, abs=2e-4), place


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=40), st.integers(1, 5))
def test_widths_are_those_of_lm_evals_batches(contexts: list[list[int]], batch: int) -> None:
    from lm_eval.models.utils import Collator

    from crlft_ray.evaluation.asking.attention import padded_widths

    collator = Collator(
        [(("", ""), context, [7]) for context in contexts],
        sort_fn=lambda request: (-len(request[1] + request[2]), tuple(request[1] + request[2])),
        group_by="contexts",
        group_fn=lambda request: request[1] + request[2][:-1],
    )
    expected = {}
    for chunk in collator.get_batched(n=batch):
        expected.update({tuple(context): max(len(each) for _, each, _ in chunk) for _, context, _ in chunk})
    assert padded_widths(contexts, batch) == expected
