"""Packing: which conversations share a pack of at most `pack_tokens` tokens.

pack_tokens = 10      conversations 6 5 4 4 3 2 2 2

pack 0  | 6 6 6 6 6 6 4 4 4 4 |
pack 1  | 5 5 5 5 5 3 3 3 2 2 |
pack 2  | 4 4 4 4 2 2 2 2 . . |
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def best_fit_decreasing(lengths: npt.NDArray[np.int64], pack_tokens: int) -> list[list[int]]:
    """Puts the longest conversation that is left into the fullest pack that still holds it.

    Ties are decided by position, so the result is a pure function of the arguments. O(n·log pack_tokens).

    Args:
        lengths: [conversations], each between 1 and `pack_tokens`.
        pack_tokens: slots of a pack.

    Returns:
        For each pack the positions of its conversations.
    """
    assert lengths.size == 0 or 0 < lengths.min() <= lengths.max() <= pack_tokens
    packs: list[list[int]] = []
    open_packs: list[list[int]] = [[] for _ in range(pack_tokens + 1)]
    free = _SmallestAtLeast(pack_tokens)
    for position in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[position])
        room = free.find(length)
        if room is None:
            room = pack_tokens
            packs.append([])
            pack = len(packs) - 1
        else:
            pack = open_packs[room].pop()
            if not open_packs[room]:
                free.remove(room)
        packs[pack].append(position)
        left = room - length
        if left:
            if not open_packs[left]:
                free.add(left)
            open_packs[left].append(pack)
    return packs


class _SmallestAtLeast:
    """A set of numbers up to `limit` that finds its smallest member of at least a given size (a bit per number)."""

    def __init__(self, limit: int) -> None:
        self._bits = 0
        self._limit = limit

    def add(self, number: int) -> None:
        self._bits |= 1 << number

    def remove(self, number: int) -> None:
        self._bits &= ~(1 << number)

    def find(self, number: int) -> int | None:
        above = self._bits >> number
        return number + (above & -above).bit_length() - 1 if above else None
