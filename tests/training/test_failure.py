"""What a user is told when training cannot go on; `tests/faults/test_memory.py` has a node whose memory is full."""

from __future__ import annotations

import pytest

from crlft_ray.training.failure import first_cause


def _failed(*failures: BaseException) -> BaseException:
    """As Ray Train gives it: each rank's own exception."""
    from ray.train.v2.api.exceptions import WorkerGroupError

    error: BaseException = WorkerGroupError("Rank 0 Error Snippet", dict(enumerate(failures)))
    return error


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (KeyError("lm_head"), "worker 0: KeyError: 'lm_head'"),
        (AssertionError(), "worker 0: AssertionError"),
        (
            RuntimeError("no such shard\nException raised from read at /src.cpp:7"),
            "worker 0: RuntimeError: no such shard",
        ),
    ],
)
def test_it_is_what_the_worker_said(failure: BaseException, said: str) -> None:
    assert first_cause(_failed(failure)) == said


def test_a_rank_that_only_lost_another_one_is_not_to_blame() -> None:
    lost = RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:4242")
    assert first_cause(_failed(lost, ValueError("bad pack"))) == "worker 1: ValueError: bad pack"
    assert first_cause(_failed(lost, lost)).startswith("worker 0: RuntimeError: [pair.cc:547] Connection closed")


@pytest.mark.parametrize("full", [RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError()])
def test_full_memory_comes_with_what_takes_less(full: BaseException) -> None:
    cause = first_cause(_failed(RuntimeError("Connection closed by peer"), full))
    assert cause.startswith(f"worker 1: {type(full).__name__}")
    assert "data.pack_tokens" in cause


def test_an_error_of_the_controller_ends_with_its_cause() -> None:
    from ray.train.v2.api.exceptions import ControllerError

    cause = RuntimeError("Attempts exhausted\n\nNo node has 8 GPUs\n")
    assert first_cause(ControllerError(cause)) == "No node has 8 GPUs"
