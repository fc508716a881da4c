"""The MLflow server dies in the middle of a training and comes back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from crlft_ray.config import load_config
from crlft_ray.training.train import train
from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.runs import FinishedRun
from tests.tracking.server import Server, points

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]


def test_a_server_that_dies_and_comes_back(new_run: NewRun, finished: FinishedRun, tmp_path: Path) -> None:
    config, output = new_run(epochs=40)
    server = Server(tmp_path)
    server.start()

    def break_it() -> None:
        runs.wait_for(lambda: runs.steps_seen(output) >= 5)
        server.kill()
        before = runs.steps_seen(output)
        runs.wait_for(lambda: runs.steps_seen(output) >= before + 50)
        server.start()

    helper = threading.Thread(target=break_it)
    helper.start()
    try:
        trained = train(load_config(config, [f"tracking.uri={server.uri}"]))
        helper.join()
        if (
            trained.mlflow_run_id is None
            or len(points(server.uri, trained.mlflow_run_id, "train/loss")) < trained.steps
        ):
            # The training did not wait for a server that is still starting: the next command delivers.
            trained = train(load_config(config, [f"tracking.uri={server.uri}"]))
        assert trained.mlflow_run_id is not None
        found = points(server.uri, trained.mlflow_run_id, "train/loss")
        assert set(found) == set(range(1, trained.steps + 1))
    finally:
        helper.join()
        server.kill()
