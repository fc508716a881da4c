"""The order of packs: a pure function of fingerprint, seed and epoch, evaluated per index in constant memory.

A keyed Feistel network permutes [0, 2^2k) and is walked until it lands in [0, N) ("cycle-walking"; Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002), so that no rank ever holds a list of all packs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ROUNDS = 6

Indices = npt.NDArray[np.int64]


class Permutation:
    """A permutation of 0..size-1."""

    def __init__(self, size: int, fingerprint: str, seed: int, epoch: int) -> None:
        assert size > 0
        self._size = size
        self._half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        key = hashlib.sha256(f"{fingerprint}|{seed}|{epoch}".encode()).digest()
        self._keys = [
            np.uint64(int.from_bytes(hashlib.sha256(key + bytes([number])).digest()[:8], "big"))
            for number in range(_ROUNDS)
        ]

    def __call__(self, indices: Indices) -> Indices:
        """Where each index goes; any shape, all values in [0, size)."""
        values = np.asarray(indices, dtype=np.uint64)
        assert values.size == 0 or int(values.max()) < self._size
        found = self._network(values)
        # The domain is at most four times the size, so a walk takes four rounds on average at most.
        while (outside := found >= self._size).any():
            found = np.where(outside, self._network(found), found)
        result: Indices = found.astype(np.int64)
        return result

    def _network(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        joined: npt.NDArray[np.uint64] = (left << self._half) | right
        return joined


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of the argument."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


@dataclass(frozen=True)
class Order:
    """Which packs each step of a run learns from, and which of them each rank takes.

        epoch of N = 7 packs, G = 4 packs a step, W = 2 ranks

        position   0  1  2  3 | 4  5  6
        step       0           | 1
        rank       0  1  0  1 | 0  1  0      rank 1 adds a pack of weight zero in step 1

    A step never reaches into the next epoch, so the last one of an epoch may be smaller.
    """

    packs: int
    """N, packs of an epoch."""
    packs_per_step: int
    """G, packs of one global batch."""
    fingerprint: str
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.packs // self.packs_per_step)

    def packs_of_step(self, step: int) -> int:
        """How many packs step `step` (counted over all epochs) learns from."""
        in_epoch = step % self.steps_per_epoch
        return min(self.packs_per_step, self.packs - in_epoch * self.packs_per_step)

    def consumed(self, step: int) -> int:
        """Packs learned from before `step`: the progress of a run."""
        epoch, in_epoch = divmod(step, self.steps_per_epoch)
        return epoch * self.packs + in_epoch * self.packs_per_step

    def step_at(self, consumed: int) -> int:
        """The step that comes after `consumed` packs.

        Raises:
            ValueError: no step begins there.
        """
        epoch, in_epoch = divmod(consumed, self.packs)
        step, rest = divmod(in_epoch, self.packs_per_step)
        if rest:
            raise ValueError(f"progress {consumed} is not at the beginning of a step of {self.packs_per_step} packs")
        return epoch * self.steps_per_epoch + step

    def micro_batches(self, step: int, world_size: int) -> int:
        """Micro-batches that every rank runs in a step; ranks with fewer packs add packs of weight zero."""
        return -(-self.packs_of_step(step) // world_size)

    def rank_packs(self, step: int, rank: int, world_size: int) -> int:
        """How many real packs a rank has in a step."""
        return len(range(rank, self.packs_of_step(step), world_size))

    def count(self, first_step: int, last_step: int, rank: int, world_size: int) -> int:
        """How many packs a rank gets in steps [first_step, last_step)."""
        whole = self._per_epoch(rank, world_size)
        return sum(
            sign * (epoch * whole + in_epoch * len(range(rank, self.packs_per_step, world_size)))
            for sign, (epoch, in_epoch) in (
                (1, divmod(last_step, self.steps_per_epoch)),
                (-1, divmod(first_step, self.steps_per_epoch)),
            )
        )

    def pack_numbers(self, first_step: int, indices: Indices, rank: int, world_size: int) -> Indices:
        """Numbers of the packs that a rank receives as its 0th, 1st, … from `first_step` on."""
        each, whole = len(range(rank, self.packs_per_step, world_size)), self._per_epoch(rank, world_size)
        epochs, in_epoch = np.divmod(np.asarray(indices) + self.count(0, first_step, rank, world_size), whole)
        # The last step of an epoch is the only one with fewer packs, so division by `each` holds for it, too.
        steps, micro = np.divmod(in_epoch, max(each, 1))
        positions = steps * self.packs_per_step + micro * world_size + rank
        numbers: Indices = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            numbers[chosen] = Permutation(self.packs, self.fingerprint, self.seed, int(epoch))(positions[chosen])
        return numbers

    def _per_epoch(self, rank: int, world_size: int) -> int:
        full = (self.packs // self.packs_per_step) * len(range(rank, self.packs_per_step, world_size))
        return full + len(range(rank, self.packs % self.packs_per_step, world_size))
