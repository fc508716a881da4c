"""Runs a function over many items as Ray tasks.

A Ray Data pipeline would do it, too, but takes two actors and its own import in every process: seconds, where most
inputs take no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from crlft_ray.errors import TrainingFailed, UserError, reason_of

_CANCELLED_S = 10.0


def run_tasks(task: Callable[..., Any], items: Sequence[Any], *, num_cpus: float = 1, **arguments: Any) -> list[Any]:
    """Runs `task(*item, **arguments)` for every item, each as a task of its own; results in the order of the items.

    After a failure no further task begins.

    Raises:
        UserError, OSError: what a task raised, of several the first in that order; without a trace.
        TrainingFailed: the process of a task ended, each time that Ray tried it.
    """
    if len(items) < 2:
        # Not worth starting processes.
        return [task(*item, **arguments) for item in items]
    import ray

    from crlft_ray.ray_session import task_slots

    # Tasks that ask for no CPU would all run on the driver's node, and those of a trial within its bundle.
    call = ray.remote(num_cpus=num_cpus, scheduling_strategy="SPREAD")(_call)
    shared = ray.put((task, arguments))
    waiting, running = iter(enumerate(items)), dict[Any, int]()
    results: list[Any] = [None] * len(items)
    failures: dict[int, Exception] = {}
    try:
        while True:
            # One more than run at full speed, so that none of these waits for the driver; a cluster may grow meanwhile.
            at_once = 1 + max(1, int(task_slots() / max(num_cpus, 1)))
            for number, item in islice(waiting, 0 if failures else max(0, at_once - len(running))):
                running[call.remote(item, shared)] = number
            if not running:
                break
            (done, *_), _ = ray.wait(list(running))
            number = running.pop(done)
            results[number] = _result(done, f"part {number + 1} of {len(items)}")
            if isinstance(results[number], UserError | OSError):
                failures[number] = results[number]
    finally:
        # Whoever stopped waiting removes what they write to.
        for left in running:
            ray.cancel(left)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_CANCELLED_S)
    if failures:
        raise failures[min(failures)]
    return results


def _result(done: Any, part: str) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(done)
    except RayTaskError:
        raise
    except RayError as error:
        raise TrainingFailed(f"{part}: a process on it ended: {reason_of(error)}") from error


def _call(item: Sequence[Any], shared: tuple[Callable[..., Any], dict[str, Any]]) -> Any:
    task, arguments = shared
    # What a user can mend travels as a value: Ray would wrap an exception in its own, with a trace.
    try:
        return task(*item, **arguments)
    except (UserError, OSError) as error:
        return error
