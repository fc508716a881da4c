"""SIGTERM and SIGINT: a checkpoint, exit code 75, and the same command goes on in the same MLflow run."""

from __future__ import annotations

import signal

import pytest

from tests.faults import runs
from tests.faults.conftest import NewRun
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]


@pytest.mark.parametrize(("number", "every"), [(signal.SIGTERM, 1000), (signal.SIGINT, 1000), (signal.SIGTERM, 1)])
def test_it_stops_and_goes_on(number: signal.Signals, every: int, new_run: NewRun, finished: FinishedRun) -> None:
    """Also where the step after which it stops has a checkpoint anyway."""
    config, output = new_run(checkpoint_every=every)
    with runs.started(config) as process:
        runs.wait_for(lambda: runs.steps_seen(output) >= 2)
        process.send_signal(number)
        assert process.wait(60) == 75, process.log.read_text()  # type: ignore[attr-defined]
        said = process.log.read_text()  # type: ignore[attr-defined]
    assert "the same command goes on" in said
    assert "Traceback" not in said
    (run,) = runs.all_runs(f"sqlite:///{output / 'mlflow.db'}")
    assert run.info.status == "KILLED"
    second = runs.train(config)
    assert second.code == 0, second.said
    assert "going on from step" in second.said
    (run,) = runs.all_runs(f"sqlite:///{output / 'mlflow.db'}")
    assert run.info.status == "FINISHED"
    assert runs.weights(output) == runs.weights(finished.output)
    assert runs.curve(output) == runs.curve(finished.output)


def test_asked_again_it_ends_at_once(new_run: NewRun) -> None:
    config, output = new_run(checkpoint_every=1000, epochs=2000)
    with runs.started(config) as process:
        runs.wait_for(lambda: runs.steps_seen(output) >= 2)
        process.send_signal(signal.SIGINT)
        runs.wait_for(lambda: "ask again to stop at once" in process.log.read_text())  # type: ignore[attr-defined]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, process.log.read_text()  # type: ignore[attr-defined]
        said = process.log.read_text()  # type: ignore[attr-defined]
    assert "Traceback" not in said
    (run,) = runs.all_runs(f"sqlite:///{output / 'mlflow.db'}")
    assert run.info.status == "KILLED"
