"""Why Ray Train gave up, in one line: what the first worker to blame said, or what to change where memory ran out."""

from __future__ import annotations

import re

_NODE_FULL = re.compile(r"low on memory.*?was (?P<used>[\d.]+GB) used / (?P<limit>[\d.]+GB) limit", re.DOTALL)
_FULL = re.compile(r"CUDA out of memory|can't allocate memory|MemoryError")
_LOST_PEER = re.compile(r"[Cc]onnection (closed|reset|refused)|Broken pipe|ncclRemoteError")
"""What a rank says when another one has gone."""
_MEND = (
    "Shorter packs (data.pack_tokens), train.gradient_checkpointing: true or more workers need less; "
    "`crlft plan` says how much"
)


def first_cause(error: BaseException) -> str:
    """The message for a user.

    Args:
        error: a `TrainingFailedError` of Ray Train, or the error of Ray that ended its controller.
    """
    failures: dict[int, BaseException] = getattr(error, "worker_failures", None) or {}
    if full := next(filter(None, map(_NODE_FULL.search, map(str, (*failures.values(), error)))), None):
        return f"workers were killed, as a node's memory was full ({full['used']} of {full['limit']}). {_MEND}"
    if not failures:
        return _said(error)
    said = {rank: _said(failure) for rank, failure in failures.items()}
    for rank, line in said.items():
        if _FULL.search(line):
            return f"worker {rank}: {line}. {_MEND}"
    to_blame = [rank for rank, line in said.items() if not _LOST_PEER.search(line)] or list(said)
    return f"worker {to_blame[0]}: {said[to_blame[0]]}"


def _said(error: BaseException) -> str:
    """Ray ends its long texts with the cause; other exceptions begin with it, and go on with where they come from."""
    from ray.exceptions import RayError
    from ray.train.v2.api.exceptions import TrainingFailedError

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, (RayError, TrainingFailedError)):
        return lines[-1] if lines else type(error).__name__
    return ": ".join([type(error).__name__, *lines[:1]])
