"""Packing: which conversations share a pack of at most `pack_tokens` tokens.

pack_tokens = 10      conversations 6 5 4 4 3 2 2 2

pack 0  | 6 6 6 6 6 6 4 4 4 4 |
pack 1  | 5 5 5 5 5 3 3 3 2 2 |
pack 2  | 4 4 4 4 2 2 2 2 . . |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def best_fit_decreasing(lengths: npt.NDArray[np.int64], pack_tokens: int) -> list[list[int]]:
    """Puts the longest conversation that is left into the fullest pack that still holds it.

    Ties are decided by position, so the result is a pure function of the arguments. Conversations of one length are
    placed together: those of them that a pack can hold, into all packs with the same room at once.
    O(n + pack_tokens²) at worst.

    Args:
        lengths: [conversations], each between 1 and `pack_tokens`.
        pack_tokens: slots of a pack.

    Returns:
        For each pack the positions of its conversations.
    """
    assert lengths.size == 0 or 0 < lengths.min() <= lengths.max() <= pack_tokens
    packs: list[list[int]] = []
    rooms = _Rooms(pack_tokens)
    longest_first = _longest_first(lengths, pack_tokens).tolist()
    counts = np.bincount(lengths)
    present = np.flatnonzero(counts)[::-1]
    begin = 0
    for length, count in zip(present.tolist(), counts[present].tolist(), strict=True):
        alike, done = longest_first[begin : begin + count], 0
        begin += count
        while done < count:
            room = rooms.smallest_of_at_least(length)
            fit = (room or pack_tokens) // length
            wanted = -((done - count) // fit)
            if room is None:
                room, taken = pack_tokens, list(range(len(packs), len(packs) + wanted))
                packs += ([] for _ in taken)
            else:
                taken = rooms.take(room, wanted)
            for pack in taken:
                packs[pack] += alike[done : done + fit]
                done += fit
            if done > count:
                # There were not enough for the last of these packs.
                rooms.put(room - (fit - (done - count)) * length, [taken.pop()])
            rooms.put(room - fit * length, taken)
    return packs


def _longest_first(lengths: npt.NDArray[np.int64], pack_tokens: int) -> npt.NDArray[np.intp]:
    """Positions; of one length in their order. NumPy sorts numbers of 16 bits by radix, in linear time."""
    keys = pack_tokens - lengths
    return np.argsort(keys.astype(np.uint16) if pack_tokens <= np.iinfo(np.uint16).max else keys, kind="stable")


class _Rooms:
    """Packs by the number of their free slots."""

    def __init__(self, most: int) -> None:
        self._packs: list[list[int]] = [[] for _ in range(most + 1)]
        self._bits = 0
        """A bit for each number of free slots that some pack has."""

    def smallest_of_at_least(self, slots: int) -> int | None:
        above = self._bits >> slots
        return slots + (above & -above).bit_length() - 1 if above else None

    def take(self, room: int, most: int) -> list[int]:
        """The packs that were put there last, the latest first."""
        packs = self._packs[room]
        taken = packs[-most:]
        taken.reverse()
        del packs[-most:]
        if not packs:
            self._bits &= ~(1 << room)
        return taken

    def put(self, room: int, packs: Sequence[int]) -> None:
        """A full pack is not kept."""
        if room and packs:
            self._packs[room] += packs
            self._bits |= 1 << room
