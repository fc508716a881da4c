"""A conversation never sees another one in its pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crlft_ray.errors import UserError
from crlft_ray.model.attention import packed_attention
from crlft_ray.model.batch import empty_pack, micro_batch, pack_of_sequences
from crlft_ray.model.load import load_model
from crlft_ray.model.packed import PackedModel

LENGTHS = (5, 17, 1, 40)


def _sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 300, length).astype(np.int32) for length in LENGTHS]


def test_logits_alone_and_in_a_pack_are_equal(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), "fp32")
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="eager")
    sequences = _sequences()
    batch = micro_batch(pack_of_sequences([(ids, []) for ids in sequences]))
    packed_TV = model(
        input_ids=batch.input_ids_T[None], position_ids=batch.positions_T[None], use_cache=False,
        cu_seq_lens_q=batch.cu_seq_lens, cu_seq_lens_k=batch.cu_seq_lens,
        max_length_q=batch.max_length, max_length_k=batch.max_length,
    ).logits[0]  # fmt: skip
    begin = 0
    for ids in sequences:
        alone_TV = plain(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
        torch.testing.assert_close(packed_TV[begin : begin + len(ids)], alone_TV, rtol=1e-5, atol=1e-6)
        begin += len(ids)


def test_changing_one_conversation_changes_no_other(tiny_model: Path) -> None:
    model = PackedModel(load_model(str(tiny_model), "fp32"))
    sequences = _sequences()
    learned = [(ids, [(1, len(ids), 1.0)]) for ids in sequences]
    before = micro_batch(pack_of_sequences(learned))
    changed = [(sequences[0][::-1].copy(), learned[0][1]), *learned[1:]]
    after = micro_batch(pack_of_sequences(changed))
    first_L, second_L = model(before), model(after)
    others_L = before.conversations_L != 0
    assert torch.equal(first_L[others_L], second_L[others_L])
    assert not torch.equal(first_L[~others_L], second_L[~others_L])


def test_a_first_token_is_never_a_target() -> None:
    batch = micro_batch(pack_of_sequences([(np.arange(4), [(0, 4, 1.0)]), (np.arange(5), [(0, 2, 1.0)])]))
    assert batch.sources_L.tolist() == [0, 1, 2, 4]
    assert batch.targets_L.tolist() == [1, 2, 3, 1]
    assert batch.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_per_sequence_weights_sum_to_one_per_message() -> None:
    pack = pack_of_sequences([(np.arange(9), [(1, 4, 1.0), (6, 8, 1.0)])])
    batch = micro_batch(pack, per_sequence=True)
    assert batch.message_weights_L.tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)


def test_an_empty_pack_weighs_nothing_and_touches_every_parameter(tiny_model: Path) -> None:
    model = PackedModel(load_model(str(tiny_model), "fp32"))
    batch = micro_batch(empty_pack())
    assert batch.message_weights_L.tolist() == [0.0]
    (model(batch) * batch.message_weights_L).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_dropout_in_attention_is_refused_also_under_another_name() -> None:
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    module, lengths = torch.nn.Identity(), torch.tensor([0, 5], dtype=torch.int32)
    packed_attention(module, q, k, v, None, dropout=0.0, cu_seq_lens_q=lengths, max_length_q=5)
    with pytest.raises(UserError, match=r"model: its attention has dropout \(0.1\)"):
        packed_attention(module, q, k, v, None, dropout=0.1, cu_seq_lens_q=lengths, max_length_q=5)
