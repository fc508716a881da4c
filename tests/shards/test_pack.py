"""Packing: nothing lost, nothing twice, no pack over, next to no slot empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlft_ray.shards.pack import best_fit_decreasing

sizes = st.integers(1, 64).flatmap(lambda pack: st.tuples(st.just(pack), st.lists(st.integers(1, pack), max_size=60)))


@given(sizes)
def test_every_conversation_once_and_no_pack_over(case: tuple[int, list[int]]) -> None:
    pack_tokens, values = case
    lengths = np.asarray(values, np.int64)
    packs = best_fit_decreasing(lengths, pack_tokens)
    assert sorted(position for pack in packs for position in pack) == list(range(len(values)))
    assert all(pack and lengths[pack].sum() <= pack_tokens for pack in packs)
    assert packs == best_fit_decreasing(lengths.copy(), pack_tokens)


@given(sizes)
def test_it_is_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    """Against the rule written down slowly: the longest first, each into the fullest pack that still holds it."""
    pack_tokens, values = case
    loads: list[int] = []
    for length in sorted(values, reverse=True):
        fitting = [number for number, load in enumerate(loads) if load + length <= pack_tokens]
        if fitting:
            best = max(fitting, key=lambda number: loads[number])
            loads[best] += length
        else:
            loads.append(length)
    packs = best_fit_decreasing(np.asarray(values, np.int64), pack_tokens)
    assert sorted(sum(values[position] for position in pack) for pack in packs) == sorted(loads)


def test_the_example_of_the_module() -> None:
    packs = best_fit_decreasing(np.asarray([6, 5, 4, 4, 3, 2, 2, 2], np.int64), 10)
    assert packs == [[0, 2], [1, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("seed", range(3))
def test_fill_on_lengths_like_those_of_real_conversations(seed: int) -> None:
    """ShareGPT's lengths are about log-normal, with many cut at the context."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(6.3, 1.1, 20_000), 20, 2048).astype(np.int64)
    packs = best_fit_decreasing(lengths, 4096)
    assert lengths.sum() / (len(packs) * 4096) >= 0.995
