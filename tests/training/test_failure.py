"""What a user is told when training cannot go on; `tests/faults/test_memory.py` has a node whose memory is full."""

from __future__ import annotations

from crlft_ray.training.failure import first_cause


def test_the_last_line_of_a_workers_error_is_what_it_says() -> None:
    from ray.train.v2.api.exceptions import WorkerGroupError

    error = WorkerGroupError("failed", {1: RuntimeError("Traceback\n  File x\nValueError: no such shard")})
    assert first_cause(error) == "worker 1: ValueError: no such shard"


def test_a_full_gpu_is_said_with_what_takes_less_memory() -> None:
    from ray.train.v2.api.exceptions import WorkerGroupError

    full = RuntimeError("Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    cause = first_cause(WorkerGroupError("failed", {0: full}))
    assert cause.startswith("worker 0: torch.OutOfMemoryError: CUDA out of memory")
    assert "data.pack_tokens" in cause
