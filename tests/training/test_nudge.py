"""What makes Ray count its nodes' resources again; `tests/cluster/test_links.py` has the case that needs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.training import nudge
from crlft_ray.training.nudge import Nudge, touch_nodes


@pytest.mark.slow
def test_a_task_runs_on_every_node(ray_session: None) -> None:
    import ray

    tasks = touch_nodes()
    assert len(tasks) == sum(node["Alive"] for node in ray.nodes()) > 0
    assert ray.get(tasks, timeout=60) == [None] * len(tasks)


@pytest.mark.slow
def test_it_needs_nothing_of_what_a_trial_has_reserved(ray_session: None, tmp_path: Path) -> None:
    import ray
    from ray import tune

    def trial(config: dict[str, Any]) -> dict[str, Any]:
        return {"nodes": len(ray.get(touch_nodes(), timeout=60))}

    (result,) = tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"CPU": 0.0, "memory": 1}])),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert result.error is None
    assert result.metrics is not None
    assert result.metrics["nodes"] > 0


def test_only_a_silent_training_is_nudged(monkeypatch: pytest.MonkeyPatch) -> None:
    now, nudged = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(nudge, "touch_nodes", lambda: nudged.append(now[0]))
    watched = Nudge()
    for second in range(400):
        now[0] = float(second)
        # A step every 20 s, none between 100 and 300.
        watched.heard(min(second, 100) // 20 if second < 300 else second // 20)
    assert len(nudged) == 4
    assert all(140 < at < 300 for at in nudged)
