"""Held-out loss: the mean cross-entropy of assistant content, per class of conversation and per condition."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from crlft_ray.conversations import Conversation, Turn
from crlft_ray.model.batch import MicroBatch, empty_pack, micro_batch, pack_of_sequences
from crlft_ray.shards.manifest import HELDOUT
from crlft_ray.shards.pack import best_fit_decreasing
from crlft_ray.storage import Place
from crlft_ray.templates import ChatTokenizer, Encoded, encode

_FEW = 100
"""Conversations beyond those asked for that are not worth a sort."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConversationLosses:
    """Loss of C conversations under one condition."""

    sums_C: Floats
    """Sum of the cross-entropies of each conversation's content tokens."""
    tokens_C: Floats

    @property
    def mean(self) -> float:
        """Mean over all content tokens; NaN without any."""
        tokens = float(self.tokens_C.sum())
        return float(self.sums_C.sum()) / tokens if tokens else float("nan")

    @property
    def standard_error(self) -> float:
        """Of the mean, with conversations as the units that vary (delta method of a ratio); NaN without any."""
        tokens = float(self.tokens_C.sum())
        if not tokens:
            return float("nan")
        return float(np.sqrt(((self.sums_C - self.mean * self.tokens_C) ** 2).sum())) / tokens

    def of(self, chosen: npt.NDArray[np.bool_ | np.int64]) -> ConversationLosses:
        """Of some of the conversations: a mask, or their numbers."""
        return ConversationLosses(self.sums_C[chosen], self.tokens_C[chosen])


def read_heldout(shards: Place, per_class: int | None) -> list[Conversation]:
    """The held-out conversations of a shard folder; at most `per_class` of each class, those with the lowest id.

    Takes memory for those alone.
    """
    place = shards / HELDOUT
    found: dict[str, list[tuple[str, Conversation]]] = {}
    with place.filesystem.open_input_stream(place.path) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            row = json.loads(line)
            rows = found.setdefault(row["class"], [])
            turns = tuple(Turn(turn["role"], turn["content"], turn["weight"]) for turn in row["turns"])
            rows.append((row["id"], Conversation(row["class"], row["system"], turns)))
            if per_class is not None and len(rows) > 2 * per_class + _FEW:
                rows.sort(key=lambda row: row[0])
                del rows[per_class:]
    return [
        conversation for rows in found.values() for _, conversation in sorted(rows, key=lambda row: row[0])[:per_class]
    ]


def encode_content(
    tokenizer: ChatTokenizer, conversations: Sequence[Conversation], condition: str, context: int
) -> list[Encoded]:
    """Tokenises under one condition; what counts is the assistants' content, without its end of turn and without a
    space before it that is a token of its own."""
    end_of_turn = tokenizer.token_id(tokenizer.special["eos_token"])
    encoded = []
    for whole in encode(tokenizer, conversations, [condition] * len(conversations)):
        ids_T = whole.input_ids_T[:context]
        spans = []
        for start, end, _ in whole.spans:
            if whole.input_ids_T[end - 1] == end_of_turn:
                end -= 1
            while start < end and _is_space(tokenizer, int(whole.input_ids_T[start])):
                start += 1
            if start < min(end, context):
                spans.append((start, min(end, context), 1.0))
        encoded.append(Encoded(ids_T, spans))
    return encoded


def _is_space(tokenizer: ChatTokenizer, token: int) -> bool:
    return not tokenizer.backend.decode([token], skip_special_tokens=False).strip()


@torch.no_grad()
def conversation_losses(
    model: Callable[[MicroBatch], torch.Tensor],
    encoded: Sequence[Encoded],
    pack_tokens: int,
    device: torch.device,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> ConversationLosses:
    """Loss of each conversation; with several ranks each takes a part and all get the whole (collective).

    Args:
        model: gives the cross-entropy of each learned token.
        encoded: the conversations.
        pack_tokens: slots of a pack.
        device: the model's.
        rank, world_size: of this process; every rank runs the same number of forward passes.
    """
    lengths = np.asarray([len(conversation.input_ids_T) for conversation in encoded], np.int64)
    packs = best_fit_decreasing(lengths, max(pack_tokens, int(lengths.max(initial=0))))
    totals = torch.zeros(2, len(encoded), dtype=torch.float64, device=device)
    for turn in range(-(-len(packs) // world_size)):
        number = turn * world_size + rank
        if number >= len(packs):
            # Takes part in the collectives of the others' forward pass.
            model(micro_batch(empty_pack()).to(device))
            continue
        members = packs[number]
        batch = micro_batch(pack_of_sequences([(encoded[n].input_ids_T, encoded[n].spans) for n in members])).to(device)
        owners_L = torch.tensor(members, device=device)[batch.conversations_L]
        ce_L = model(batch).double()
        totals[0].index_add_(0, owners_L, ce_L)
        totals[1].index_add_(0, owners_L, torch.ones_like(ce_L))
    if world_size > 1:
        torch.distributed.all_reduce(totals)
    sums, tokens = totals.cpu().numpy()
    return ConversationLosses(sums, tokens)


def difference_interval(
    first: ConversationLosses, second: ConversationLosses, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean loss of `first` minus that of `second` on the same conversations, and its 95 % bootstrap interval.

    Conversations are resampled, because tokens of one conversation are not independent.
    """
    rng = np.random.default_rng(seed)
    count = len(first.sums_C)
    if count == 0:
        return float("nan"), float("nan"), float("nan")
    differences = np.empty(resamples)
    for number in range(resamples):
        drawn_C = rng.integers(0, count, count)
        differences[number] = first.of(drawn_C).mean - second.of(drawn_C).mean
    # A sample of conversations that were all cut off before their content says nothing.
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return first.mean - second.mean, float(low), float(high)
