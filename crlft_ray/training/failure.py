"""Why Ray Train gave up, in one line: the first worker's own words, or what to change where memory ran out."""

from __future__ import annotations

import re

_NODE_FULL = re.compile(r"low on memory.*?was (?P<used>[\d.]+GB) used / (?P<limit>[\d.]+GB) limit", re.DOTALL)
_GPU_FULL = re.compile(r"CUDA out of memory")
_MEND = (
    "Shorter packs (data.pack_tokens), train.gradient_checkpointing: true or more workers need less; "
    "`crlft plan` says how much"
)


def first_cause(error: BaseException) -> str:
    """The message for a user.

    Args:
        error: a `TrainingFailedError` of Ray Train, or the error of Ray that ended its controller.
    """
    failures = getattr(error, "worker_failures", None)
    who, cause = "", str(error)
    if failures:
        rank, failure = next(iter(failures.items()))
        who, cause = f"worker {rank}: ", str(failure)
    if full := _NODE_FULL.search(cause):
        return f"{who}killed, as its node's memory was full ({full['used']} of {full['limit']}). {_MEND}"
    last = cause.strip().splitlines()[-1]
    return f"{who}{last}. {_MEND}" if _GPU_FULL.search(last) else f"{who}{last}"
