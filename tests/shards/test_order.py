"""The order of packs: a permutation per epoch, the same global batches for every number of workers, resumable."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlft_ray.shards.order import Order, Permutation

SIZES = [*range(1, 40), 63, 64, 65, 255, 256, 257, 1000, 4095, 4097, 65_537]


@pytest.mark.parametrize("size", SIZES)
def test_a_permutation_reaches_every_number_once(size: int) -> None:
    reached = Permutation(size, "fingerprint", seed=1, epoch=2)(np.arange(size))
    assert sorted(reached.tolist()) == list(range(size))


def test_each_of_its_keys_changes_it() -> None:
    size = 1000
    made = [
        Permutation(size, fingerprint, seed, epoch)(np.arange(size)).tolist()
        for fingerprint, seed, epoch in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]
    ]
    for number, one in enumerate(made):
        for other in made[number + 1 :]:
            # Two random permutations agree in one place on average.
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 10
    assert Permutation(size, "a", 0, 0)(np.arange(size)).tolist() == made[0]


def test_it_looks_random() -> None:
    size = 10_000
    places = Permutation(size, "x", 0, 0)(np.arange(size))
    assert abs(np.corrcoef(np.arange(size), places)[0, 1]) < 0.05
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.05
    # Thirds of the data are spread evenly over the first third of the order.
    assert np.allclose(np.bincount(places[: size // 3] * 3 // size, minlength=3) / (size // 3), 1 / 3, atol=0.03)


def test_its_shape_does_not_matter() -> None:
    permutation = Permutation(24, "x", 0, 0)
    grid = np.arange(24).reshape(2, 3, 4)
    assert permutation(grid).ravel().tolist() == [int(permutation(np.asarray([i]))[0]) for i in range(24)]
    assert permutation(np.zeros(0, np.int64)).tolist() == []


def test_nothing_grows_with_the_number_of_packs() -> None:
    order = Order(packs=10**12, packs_per_step=64, fingerprint="x", seed=0)
    tracemalloc.start()
    first = 3 * order.steps_per_epoch - 10
    numbers = order.pack_numbers(first, np.arange(200), rank=3, world_size=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert len(set(numbers.tolist())) == 200
    assert numbers.min() >= 0
    assert 10**11 < numbers.max() < 10**12
    assert order.step_at(order.consumed(first)) == first


# --- against a reference that writes the whole order down


def reference(order: Order, steps: int) -> list[list[int]]:
    """The packs of each step, in order."""
    found: list[list[int]] = []
    epoch = 0
    while len(found) < steps:
        epoch_order = Permutation(order.packs, order.fingerprint, order.seed, epoch)(np.arange(order.packs)).tolist()
        packs = iter(epoch_order)
        while step := list(islice(packs, order.packs_per_step)):
            found.append(step)
        epoch += 1
    return found[:steps]


orders = st.builds(Order, st.integers(1, 60), st.integers(1, 20), st.sampled_from(["a", "b"]), st.integers(0, 3))


@settings(max_examples=150)
@given(orders, st.integers(1, 9), st.integers(0, 20), st.integers(0, 20))
def test_every_number_of_ranks_learns_the_same(order: Order, world_size: int, first: int, more: int) -> None:
    last = first + more
    steps = reference(order, last)
    received: list[list[int]] = []
    for rank in range(world_size):
        count = order.count(first, last, rank, world_size)
        received.append(order.pack_numbers(first, np.arange(count), rank, world_size).tolist() if count else [])
        expected = [pack for step in steps[first:] for pack in step[rank::world_size]]
        assert received[-1] == expected
        assert [order.rank_packs(step, rank, world_size) for step in range(first, last)] == [
            len(step[rank::world_size]) for step in steps[first:]
        ]
    assert sorted(pack for packs in received for pack in packs) == sorted(
        pack for step in steps[first:] for pack in step
    )


@given(orders, st.integers(1, 9))
def test_an_epoch_is_every_pack_once(order: Order, world_size: int) -> None:
    for epoch in (0, 1):
        first, last = epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch
        packs: list[int] = []
        for rank in range(world_size):
            count = order.count(first, last, rank, world_size)
            if count:
                packs += order.pack_numbers(first, np.arange(count), rank, world_size).tolist()
        assert sorted(packs) == list(range(order.packs))


@given(orders, st.integers(1, 9))
def test_progress_is_the_number_of_packs_learned_from(order: Order, world_size: int) -> None:
    steps = reference(order, 3 * order.steps_per_epoch + 1)
    consumed = 0
    for step, packs in enumerate(steps):
        assert order.consumed(step) == consumed
        assert order.step_at(consumed) == step
        assert order.packs_of_step(step) == len(packs)
        assert order.micro_batches(step, world_size) == max(len(packs[rank::world_size]) for rank in range(world_size))
        for between in range(consumed + 1, consumed + len(packs)):
            with pytest.raises(ValueError, match="not at the beginning of a step"):
                order.step_at(between)
        consumed += len(packs)


@given(orders, st.integers(1, 9), st.integers(0, 15), st.integers(0, 15))
def test_counts_add_up(order: Order, world_size: int, first: int, more: int) -> None:
    for rank in range(world_size):
        one_by_one = sum(order.rank_packs(step, rank, world_size) for step in range(first, first + more))
        assert order.count(first, first + more, rank, world_size) == one_by_one
