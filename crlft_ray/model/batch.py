"""A pack as tensors: T tokens, L learned tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from crlft_ray.shards.shard import Pack


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes.

    conversations    a a a a b b b
    input_ids_T      5 8 2 9 4 7 3
    positions_T      0 1 2 3 0 1 2
    learned          . . x x . . x      tokens that are targets
    sources_L            1 2     5      the position before each of them, whose output predicts it
    """

    input_ids_T: torch.Tensor
    """int64."""
    positions_T: torch.Tensor
    """int64."""
    cu_seq_lens: torch.Tensor
    """int32, [conversations + 1]."""
    max_length: int
    sources_L: torch.Tensor
    """int64."""
    targets_L: torch.Tensor
    """int64."""
    message_weights_L: torch.Tensor
    """float32: what each message weighs beside its class."""
    classes_L: torch.Tensor
    """int64."""
    conversations_L: torch.Tensor
    """int64: which conversation of the pack each learned token belongs to."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def weights_L(self, class_weights: torch.Tensor) -> torch.Tensor:
        """float32: w_t of the loss, the class's weight times the message's."""
        return class_weights[self.classes_L] * self.message_weights_L


def micro_batch(pack: Pack, *, per_sequence: bool = False) -> MicroBatch:
    """Builds the tensors of a pack.

    Args:
        pack: conversations laid end to end.
        per_sequence: divide each message's weight by its number of learned tokens.
    """
    starts_C = np.concatenate([[0], np.cumsum(pack.lengths_C)]).astype(np.int32)
    # The first token of a conversation has no token before it that could predict it.
    first_S = np.maximum(pack.starts_S, starts_C[pack.span_conversations_S] + 1)
    sizes_S = np.maximum(pack.ends_S - first_S, 0)
    span_L = np.repeat(np.arange(len(sizes_S)), sizes_S)
    within_L = np.arange(len(span_L)) - np.repeat(np.cumsum(sizes_S) - sizes_S, sizes_S)
    learned_L = first_S[span_L] + within_L
    weights_S = pack.weights_S / np.maximum(sizes_S, 1) if per_sequence else pack.weights_S
    conversations_L = pack.span_conversations_S[span_L]
    ids_T = torch.from_numpy(pack.input_ids_T.astype(np.int64))
    return MicroBatch(
        input_ids_T=ids_T,
        positions_T=torch.from_numpy(np.arange(len(ids_T)) - np.repeat(starts_C[:-1], pack.lengths_C)).long(),
        cu_seq_lens=torch.from_numpy(starts_C),
        max_length=int(pack.lengths_C.max()),
        sources_L=torch.from_numpy(learned_L - 1).long(),
        targets_L=ids_T[torch.from_numpy(learned_L).long()],
        message_weights_L=torch.from_numpy(weights_S[span_L].astype(np.float32)),
        classes_L=torch.from_numpy(pack.classes_C[conversations_L].astype(np.int64)),
        conversations_L=torch.from_numpy(conversations_L.astype(np.int64)),
    )


def pack_of_sequences(
    sequences: Sequence[tuple[np.ndarray, Sequence[tuple[int, int, float]]]],
) -> Pack:
    """A pack of class 0 from ids and their learned spans [start, end), for evaluation."""
    lengths = np.asarray([len(ids) for ids, _ in sequences], np.int32)
    begins = np.cumsum(lengths) - lengths
    spans = [
        (begin + start, begin + end, weight, number)
        for number, (begin, (_, learned)) in enumerate(zip(begins.tolist(), sequences, strict=True))
        for start, end, weight in learned
    ]
    starts, ends, weights, owners = zip(*spans, strict=True) if spans else ((), (), (), ())
    return Pack(
        input_ids_T=np.concatenate([ids for ids, _ in sequences]).astype(np.int32),
        lengths_C=lengths,
        classes_C=np.zeros(len(lengths), np.int8),
        starts_S=np.asarray(starts, np.int32),
        ends_S=np.asarray(ends, np.int32),
        weights_S=np.asarray(weights, np.float32),
        span_conversations_S=np.asarray(owners, np.int32),
    )


def empty_pack() -> Pack:
    """A pack of weight zero for a rank that has none left: two tokens, so that every parameter takes part."""
    return pack_of_sequences([(np.zeros(2, np.int32), [(1, 2, 0.0)])])
