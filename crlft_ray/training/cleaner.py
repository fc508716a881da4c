"""Gives a training's resources back when the process that asked for it is gone, as when a trial is stopped early.

Ray Train has an actor for that, which asks the dashboard whether the training still runs. Where there is no dashboard
it gets no answer and waits for ever: after a few trials that were stopped early none would find a CPU.
"""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.execution.controller import placement_group_cleaner


class CleanerCallback(placement_group_callback.PlacementGroupCleanerCallback):  # type: ignore[misc]
    """Ray Train's, with a cleaner that asks the cluster's own tables."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called in the controller's process, where nothing else starts cleaners."""
        placement_group_callback.PlacementGroupCleaner = _Cleaner
        super().after_controller_start(train_run_context)


class _Cleaner(placement_group_cleaner.PlacementGroupCleaner):  # type: ignore[misc]
    """Runs in a process of its own."""

    def start_monitoring(self) -> Any:
        placement_group_cleaner.is_actor_alive = _is_alive
        return super().start_monitoring()


def _is_alive(actor_id: str, timeout: float) -> bool:
    """As Ray Train's function of the module that this stands in for; the tables answer at once."""
    import ray

    actor = ray._private.state.actors(actor_id)
    return bool(actor) and actor["State"] != "DEAD"
