"""Cleaning as the original does it: conversations that teach nothing are left out and counted."""

from __future__ import annotations

from crlft_ray.conversations.conversation import Turn

SHORTEST = 16
"""Fewest characters of a conversation, over all its messages (the original's limit)."""


class CleanedRow(Exception):  # noqa: N818
    """A conversation that is left out; the text is the kind it is counted under."""


def clean(turns: list[Turn]) -> tuple[Turn, ...]:
    """Drops empty turns, a leading non-user turn and a trailing user turn, then checks what is left.

    Raises:
        CleanedRow: `empty`, `not_alternating`, `short` or `nothing_learned`.
    """
    turns = [turn for turn in turns if turn.content]
    if turns and turns[0].role != "user":
        turns = turns[1:]
    if turns and turns[-1].role == "user":
        turns = turns[:-1]
    if not turns:
        raise CleanedRow("empty")
    if len(turns) % 2 or any(turn.role != ("user", "assistant")[number % 2] for number, turn in enumerate(turns)):
        raise CleanedRow("not_alternating")
    if sum(len(turn.content) for turn in turns) < SHORTEST:
        raise CleanedRow("short")
    if not any(turn.weight for turn in turns if turn.role == "assistant"):
        raise CleanedRow("nothing_learned")
    return tuple(turns)
