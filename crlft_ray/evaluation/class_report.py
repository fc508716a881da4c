"""Held-out loss of one model as a matrix: class of the conversations × condition they are put under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from crlft_ray.config.train import Precision
from crlft_ray.conversations import Conversation
from crlft_ray.device import native_precision, to_device
from crlft_ray.errors import UserError, reason_of
from crlft_ray.evaluation.heldout import (
    ConversationLosses,
    conversation_losses,
    difference_interval,
    encode_content,
    read_heldout,
)
from crlft_ray.model.load import load_model
from crlft_ray.model.packed import PackedModel
from crlft_ray.model.shape import model_config
from crlft_ray.shards.manifest import read_manifest, read_tokenizer
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, Encoded
from crlft_ray.templates.encode import token_spans


@dataclass(frozen=True)
class Steering:
    """How much worse a class is predicted under another class's condition than under its own."""

    class_name: str
    other: str
    gap: float
    low: float
    high: float
    """95 % bootstrap interval over conversations."""


@dataclass(frozen=True)
class HeldoutReport:
    """Mean cross-entropy per content token (natural logarithm)."""

    losses: dict[str, dict[str, float]]
    """class → how the conversations were put: a class's condition, or `own template` and `no template`."""
    conversations: dict[str, int]
    steering: list[Steering]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    def best(self, class_name: str) -> tuple[str, float]:
        """The way of putting them under which a class is predicted best, and its loss."""
        return min(self.losses[class_name].items(), key=lambda item: item[1])


def heldout_report(
    model: str, shards: Place, per_class: int | None, threads: int, precision: Precision | None = None
) -> HeldoutReport:
    """Measures a model folder on the held-out conversations of a shard folder.

    A model whose chat template knows conditions is measured under each class's; any other one with its own chat
    template and with none. Without a `precision`, in the one that the cluster is fast in; Ray must be connected then.
    """
    torch.set_num_threads(threads)
    manifest = read_manifest(shards)
    model_config(model, manifest.settings["context"], to_train=False)
    conversations = read_heldout(shards, per_class)
    if not conversations:
        raise UserError(f"{shards}: no conversations were held out; set data.holdout above 0 and prepare again")
    context, pack_tokens = manifest.settings["context"], manifest.pack_tokens
    if takes_condition(model):
        tokenizer = read_tokenizer(shards)
        _check_same(model, tokenizer, shards)
        ways = {
            counts.name: encode_content(tokenizer, conversations, counts.condition, context)
            for counts in manifest.classes
        }
    else:
        ways = _of_base_model(model, conversations, context)
    packed = PackedModel(load_model(model, precision or native_precision())).eval()
    device = to_device(packed, model)
    losses = {way: conversation_losses(packed, encoded, pack_tokens, device) for way, encoded in ways.items()}
    return _report(losses, conversations)


def takes_condition(model: str) -> bool:
    """Whether a model's chat template is one that training with this project exported."""
    template = load_tokenizer(model).chat_template
    return isinstance(template, str) and "condition is not defined" in template


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a folder or hub id, as transformers gives it.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"model: the tokenizer of {model} cannot be loaded: {reason_of(error)}") from None


def _check_same(model: str, tokenizer: ChatTokenizer, shards: Place) -> None:
    own = load_tokenizer(model)
    if own.get_vocab() != tokenizer.backend.get_vocab() or not own.chat_template.endswith(tokenizer.template_body):
        raise UserError(
            f"{shards}: made with another tokenizer or chat template than that of {model}; give the shards that this "
            "model was trained on, or prepare some with its template"
        )


def _report(losses: dict[str, ConversationLosses], conversations: Sequence[Conversation]) -> HeldoutReport:
    names = list(dict.fromkeys(conversation.class_name for conversation in conversations))
    matrix: dict[str, dict[str, float]] = {}
    steering = []
    for name in names:
        chosen = np.asarray([conversation.class_name == name for conversation in conversations])
        matrix[name] = {way: of_all.of(chosen).mean for way, of_all in losses.items()}
        if name in losses:
            steering += [
                Steering(name, other, *difference_interval(losses[other].of(chosen), losses[name].of(chosen)))
                for other in losses
                if other != name
            ]
    counts = {name: sum(conversation.class_name == name for conversation in conversations) for name in names}
    return HeldoutReport(matrix, counts, steering)


def _of_base_model(model: str, conversations: Sequence[Conversation], context: int) -> dict[str, list[Encoded]]:
    tokenizer = load_tokenizer(model)
    plain = [_laid_out(c, "\n".join) for c in conversations]
    ways = {"no template": [_found(tokenizer, *each, context, special=True) for each in plain]}
    if tokenizer.chat_template:

        def rendered(conversation: Conversation, contents: Sequence[str]) -> str:
            named = [{**m, "content": text} for m, text in zip(conversation.messages(), contents, strict=True)]
            return str(tokenizer.apply_chat_template(named, tokenize=False))

        own = [_laid_out(c, partial(rendered, c)) for c in conversations]
        ways["own template"] = [_found(tokenizer, *each, context, special=False) for each in own]
    return ways


def _laid_out(conversation: Conversation, render: Callable[[Sequence[str]], str]) -> tuple[str, list[tuple[int, int]]]:
    """A conversation as text, and where the assistants' content that counts lies in it."""
    contents = [message["content"].strip() for message in conversation.messages()]
    counts = [False] * (len(contents) - len(conversation.turns))
    counts += [turn.role == "assistant" and turn.weight != 0 for turn in conversation.turns]
    # The same template around private characters tells where each message goes, whatever the messages say.
    marks = [f"\ue000{number}\ue001" for number in range(len(contents))]
    rest, text, spans = render(marks), "", []
    for mark, content, counted in zip(marks, contents, counts, strict=True):
        before, found, rest = rest.partition(mark)
        text += before
        if found and counted:
            spans.append((len(text), len(text) + len(content)))
        text += content if found else ""
    text += rest
    # A template that rewrites the messages leaves nothing that could be compared.
    whole = render(contents)
    return (whole, spans if text == whole else [])


def _found(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]], context: int, *, special: bool) -> Encoded:
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
    found = token_spans(encoding.offset_mapping, spans)
    kept = [(start, min(end, context), 1.0) for start, end in found if start < context and end > start]
    return Encoded(np.asarray(encoding.input_ids[:context], np.int32), kept)
