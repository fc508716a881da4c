"""Runs a function over many items as Ray Data tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crlft_ray.errors import UserError


def run_tasks(task: Callable[..., Any], items: Sequence[Any], *, num_cpus: float = 1, **arguments: Any) -> list[Any]:
    """Runs `task(*item, **arguments)` for every item, each as a task of its own; results in the order of the items.

    Raises:
        UserError, OSError: the first one that a task raised, without a trace.
    """
    if len(items) < 2:
        # Not worth a pipeline, which takes seconds to start.
        return [task(*item, **arguments) for item in items]
    import ray.data
    from ray import cloudpickle

    from crlft_ray.ray_session import task_slots

    rows = [{"number": number, "item": cloudpickle.dumps(item)} for number, item in enumerate(items)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    # One more than run at full speed, so that none of these waits while Ray Data hands over a result.
    at_once = 1 + max(1, int(task_slots() / max(num_cpus, 1)))
    pool = ray.data.TaskPoolStrategy(size=min(len(rows), at_once))
    call = {"task": task, "arguments": arguments}
    done = dataset.map(_call, fn_kwargs=call, num_cpus=num_cpus, compute=pool).take_all()
    results = [cloudpickle.loads(row["result"]) for row in sorted(done, key=lambda row: row["number"])]
    for result in results:
        if isinstance(result, UserError | OSError):
            raise result
    return results


def _call(row: dict[str, Any], task: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    from ray import cloudpickle

    # What a user can mend travels as a value: Ray Data would wrap an exception in its own and print a trace.
    try:
        result = task(*cloudpickle.loads(row["item"]), **arguments)
    except (UserError, OSError) as error:
        result = error
    return {"number": row["number"], "result": cloudpickle.dumps(result)}
