"""Held-out loss: which tokens count, their loss, and the interval of a difference."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crlft_ray.conversations import Conversation, Turn
from crlft_ray.errors import UserError
from crlft_ray.evaluation.class_report import _found, _laid_out, _of_base_model, heldout_report, takes_condition
from crlft_ray.evaluation.heldout import (
    ConversationLosses,
    conversation_losses,
    difference_interval,
    encode_content,
    read_heldout,
)
from crlft_ray.model.load import add_tokens, load_model
from crlft_ray.model.packed import PackedModel
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, Encoded, load_chat_tokenizer
from tests.evaluation.ranked import losses_of_rank
from tests.runs import FinishedRun
from tests.synthetic import WORDS, sentence
from tests.training.ranks import run_ranks

# As most models' templates: a system text of its own, and role names that messages may well repeat.
BASE_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|system|>You are a helpful assistant.\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
)
AWKWARD = ["a", "assistant", "user", "🙂 東京", "  two  ", "5", "\tx", "You are", "\n", "|>"]


def _conversations(count: int = 40) -> list[Conversation]:
    rng = random.Random(5)
    found = []
    for number in range(count):
        turns: list[Turn] = []
        for turn in range(rng.randint(1, 3)):
            texts = [rng.choice([*AWKWARD, sentence(rng, longest=12)]).strip() or "x" for _ in range(2)]
            turns += [Turn("user", texts[0]), Turn("assistant", texts[1], 0.0 if number % 5 == turn else 1.0)]
        found.append(Conversation(("expert", "mixed")[number % 2], "be brief" if number % 3 else "", tuple(turns)))
    return found


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return load_chat_tokenizer(str(tiny_model), "openchat", "GPT4")


def _texts(decode: Any, encoded: Encoded) -> list[str]:
    return [decode(encoded.input_ids_T[start:end].tolist()) for start, end, _ in encoded.spans]


def _wanted(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.turns if turn.role == "assistant" and turn.weight]


@pytest.mark.parametrize("condition", ["GPT4", "GPT3", ""])
def test_only_the_assistants_content_counts(condition: str, tokenizer: ChatTokenizer) -> None:
    conversations = _conversations()
    for conversation, encoded in zip(
        conversations, encode_content(tokenizer, conversations, condition, 10_000), strict=True
    ):
        found = _texts(lambda ids: tokenizer.backend.decode(ids, skip_special_tokens=False), encoded)
        assert [text.removeprefix(" ") for text in found] == _wanted(conversation)
        end_of_turn = tokenizer.token_id("<|end_of_turn|>")
        for start, end, weight in encoded.spans:
            assert encoded.input_ids_T[end] == end_of_turn
            assert end_of_turn not in encoded.input_ids_T[start:end]
            assert tokenizer.backend.decode(encoded.input_ids_T[start:end][:1].tolist()).strip(), "not a mere space"
            assert weight == 1.0


def test_a_context_cuts_what_counts(tokenizer: ChatTokenizer) -> None:
    conversations = _conversations()
    whole = encode_content(tokenizer, conversations, "GPT4", 10_000)
    for one, cut in zip(whole, encode_content(tokenizer, conversations, "GPT4", 30), strict=True):
        assert cut.input_ids_T.tolist() == one.input_ids_T[:30].tolist()
        assert cut.spans == [(start, min(end, 30), weight) for start, end, weight in one.spans if start < 30]


@pytest.fixture(scope="module")
def base_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with a chat template that knows no conditions."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = BASE_TEMPLATE
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(folder)
    return str(folder)


def test_the_base_model_is_measured_on_the_same_content(base_model: str, tokenizer: ChatTokenizer) -> None:
    """Also where a message says what the template says around it."""
    conversations = _conversations()
    ways = _of_base_model(base_model, conversations, 10_000)
    assert set(ways) == {"own template", "no template"}
    ours = encode_content(tokenizer, conversations, "GPT4", 10_000)
    for encoded in ways.values():
        for conversation, base, tuned in zip(conversations, encoded, ours, strict=True):
            found = _texts(tokenizer.backend.decode, base)
            assert [text.strip() for text in found] == _wanted(conversation)
            assert [text.strip() for text in _texts(tokenizer.backend.decode, tuned)] == _wanted(conversation)


def test_content_is_found_in_its_own_message(base_model: str) -> None:
    """A message may say no more than "a", which is in the template's own words, too."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    for conversation in _conversations():

        def render(contents: Sequence[str], whole: Conversation = conversation) -> str:
            named = [{**m, "content": text} for m, text in zip(whole.messages(), contents, strict=True)]
            return str(tokenizer.apply_chat_template(named, tokenize=False))

        text, spans = _laid_out(conversation, render)
        assert text == render([m["content"] for m in conversation.messages()])
        assert len(spans) == len(_wanted(conversation))
        for start, end in spans:
            assert text[:start].endswith("<|assistant|>\n")
            assert text[end:].startswith("\n<|") or text[end:] == "\n"


def test_a_template_that_rewrites_messages_is_not_compared(base_model: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    conversation = _conversations(1)[0]
    text, spans = _laid_out(conversation, lambda contents: "\n".join(contents).upper())
    assert spans == []
    assert _found(tokenizer, text, spans, 100, special=False).spans == []
    assert takes_condition(base_model) is False


def test_losses_equal_those_of_plain_transformers(tiny_model: Path, tokenizer: ChatTokenizer) -> None:
    """Each conversation alone, all its logits at once, transformers' own attention."""
    from transformers import AutoModelForCausalLM

    encoded = encode_content(tokenizer, _conversations(), "GPT4", 200)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="eager")
    packed = load_model(str(tiny_model), "fp32")
    for model in (plain, packed):
        add_tokens(model, tokenizer)
    losses = conversation_losses(PackedModel(packed).eval(), encoded, 512, torch.device("cpu"))
    for number, one in enumerate(encoded):
        ids = torch.from_numpy(one.input_ids_T.astype(np.int64))
        with torch.no_grad():
            ce = torch.nn.functional.cross_entropy(plain(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        assert losses.tokens_C[number] == sum(end - start for start, end, _ in one.spans)
        total = sum(float(ce[start - 1 : end - 1].sum()) for start, end, _ in one.spans)
        assert losses.sums_C[number] == pytest.approx(total, rel=1e-5)
    assert losses.mean == pytest.approx(losses.sums_C.sum() / losses.tokens_C.sum())


def _write_heldout(folder: Path) -> Place:
    rows = []
    for conversation in _conversations(24):
        turns = [turn._asdict() for turn in conversation.turns]
        rows.append(
            {
                "id": conversation.id.hex(),
                "class": conversation.class_name,
                "system": conversation.system,
                "turns": turns,
            }
        )
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Place.of(folder)


def test_a_sample_is_the_same_for_everybody(tmp_path: Path) -> None:
    shards = _write_heldout(tmp_path)
    everything = read_heldout(shards, None)
    few = read_heldout(shards, 3)
    assert [c.class_name for c in few] == ["expert"] * 3 + ["mixed"] * 3
    lines = (tmp_path / "heldout.jsonl").read_text().splitlines()
    (tmp_path / "heldout.jsonl").write_text("".join(f"{line}\n" for line in reversed(lines)))
    again = read_heldout(shards, 3)
    assert {c.id for c in again} == {c.id for c in few}
    assert {c.id for c in read_heldout(shards, None)} == {c.id for c in everything}


@pytest.mark.slow
def test_two_ranks_find_what_one_process_finds(tiny_model: Path, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """And every rank has the whole of it; the last round of packs is not full."""
    shards = _write_heldout(tmp_path)
    run_ranks(2, tmp_path, losses_of_rank, str(tiny_model), str(tmp_path), str(tmp_path / "losses"))
    alone = load_model(str(tiny_model), "fp32")
    add_tokens(alone, tokenizer)
    packed = PackedModel(alone).eval()
    conversations = read_heldout(shards, None)
    parts = [np.load(tmp_path / f"losses.{rank}.npz") for rank in range(2)]
    for condition in ("GPT4", "GPT3"):
        encoded = encode_content(tokenizer, conversations, condition, 256)
        one = conversation_losses(packed, encoded, 512, torch.device("cpu"))
        for part in parts:
            np.testing.assert_allclose(part[f"{condition} sums"], one.sums_C, rtol=1e-6)
            np.testing.assert_array_equal(part[f"{condition} tokens"], one.tokens_C)
    assert not np.allclose(parts[0]["GPT4 sums"], parts[0]["GPT3 sums"])


@pytest.mark.slow
def test_the_report_of_an_export(finished: FinishedRun, base_model: str) -> None:
    """The matrix that training itself had logged at its end, with the base model in its own ways."""
    shards = shards_folder(finished.config)
    report = heldout_report(finished.trained.export, shards, None, 1, "bf16")
    logged = finished.trained.metrics
    for name, ways in report.losses.items():
        for way, loss in ways.items():
            assert loss == pytest.approx(logged[f"heldout/{name}/as_{way}"], rel=1e-3)
    assert report.conversations == {counts.name: counts.held_out for counts in finished.manifest.classes}
    assert {(gap.class_name, gap.other) for gap in report.steering} == {("expert", "mixed"), ("mixed", "expert")}
    for gap in report.steering:
        losses = report.losses[gap.class_name]
        assert gap.gap == pytest.approx(losses[gap.other] - losses[gap.class_name])
        assert gap.low <= gap.gap <= gap.high
    base = heldout_report(base_model, shards, 3, 1)
    assert set(base.losses["expert"]) == {"own template", "no template"}
    assert base.steering == []
    assert base.best("expert")[1] == min(base.losses["expert"].values())
    assert report.best("expert")[1] < base.best("expert")[1] / 2


@pytest.mark.slow
def test_an_export_and_shards_that_do_not_belong_together(finished: FinishedRun, tmp_path: Path) -> None:
    """Ids of another tokenizer would give a loss that means nothing."""
    folder = tmp_path / "shards"
    shutil.copytree(finished.output / "shards", folder)
    other = load_chat_tokenizer(finished.config.model, "chatml", "GPT4")
    (folder / "tokenizer.json").write_text(other.to_json())
    with pytest.raises(UserError, match="made with another tokenizer or chat template than that of"):
        heldout_report(finished.trained.export, Place.of(folder), None, 1)
    (folder / "heldout.jsonl").write_text("")
    with pytest.raises(UserError, match=r"no conversations were held out; set data\.holdout above 0"):
        heldout_report(finished.trained.export, Place.of(folder), None, 1)


def test_a_model_without_a_tokenizer_is_named() -> None:
    with pytest.raises(UserError, match=r"tokenizer of /nowhere/at/all cannot be loaded"):
        takes_condition("/nowhere/at/all")


def test_the_interval_covers_the_truth() -> None:
    """Conversations with a common loss of their own, so that their tokens are far from independent."""
    covered, truth = 0, 0.05
    for seed in range(200):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(5, 200, 60).astype(np.float64)
        own = rng.normal(3.0, 1.0, 60)
        second = ConversationLosses(own * tokens, tokens)
        first = ConversationLosses((own + truth + rng.normal(0, 0.1, 60)) * tokens, tokens)
        gap, low, high = difference_interval(first, second, resamples=400, seed=seed)
        assert low <= gap <= high
        covered += low <= truth <= high
    assert 180 <= covered <= 199, "95 % of them, give or take"


def test_intervals_without_anything_to_compare() -> None:
    nothing = ConversationLosses(np.zeros(0), np.zeros(0))
    assert all(np.isnan(value) for value in difference_interval(nothing, nothing))
    same = ConversationLosses(np.array([3.0, 4.0]), np.array([2.0, 2.0]))
    assert difference_interval(same, same) == (0.0, 0.0, 0.0)
    cut_off = ConversationLosses(np.array([0.0, 4.0]), np.array([0.0, 2.0]))
    assert difference_interval(cut_off, cut_off) == (0.0, 0.0, 0.0)


def test_the_conversations_are_a_hard_case() -> None:
    assert {"🙂", "東京"} <= set(WORDS)
    assert any(not turn.weight for c in _conversations() for turn in c.turns)
    assert {text.strip() or "x" for text in AWKWARD} <= {turn.content for c in _conversations() for turn in c.turns}
