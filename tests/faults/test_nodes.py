"""A node of two dies: the run goes on with the workers that are left, and with more when one comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import NewRun

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.long]

Nodes = tuple[dict[str, str], Callable[[str], None]]


@pytest.fixture
def two_nodes() -> Iterator[Nodes]:
    """The environment of a cluster of 2 + 1 CPUs, and a way to say `kill` or `add`."""
    script = [sys.executable, str(Path(__file__).with_name("two_nodes.py")), "2", "1"]
    process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def heard(prefix: str) -> str:
        assert process.stdout is not None
        return next(line.removeprefix(prefix).strip() for line in process.stdout if line.startswith(prefix))

    def say(what: str) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
        heard("done")

    try:
        yield {"RAY_ADDRESS": heard("address "), "RAY_TRAIN_ELASTIC_RESIZE_MONITOR_INTERVAL_S": "5"}, say
    finally:
        process.stdin.close()
        process.wait(60)


def test_elastic_workers(two_nodes: Nodes, new_run: NewRun) -> None:
    env, say = two_nodes
    # More steps than will be run: only the stop below ends it.
    config, output = new_run(workers={"min": 1, "max": 3}, epochs=5000, checkpoint_every=10)
    with runs.started(config, env=env) as process:
        log: Path = process.log  # type: ignore[attr-defined]
        runs.wait_for(lambda: runs.steps_seen(output) >= 25, 180)
        say("kill")
        runs.wait_for(lambda: "written by 3 workers, with 2" in log.read_text(), 240)
        fewer = runs.steps_seen(output)
        runs.wait_for(lambda: runs.steps_seen(output) >= fewer + 15, 120)
        say("add")
        runs.wait_for(lambda: "written by 2 workers, with 3" in log.read_text(), 240)
        more = runs.steps_seen(output)
        runs.wait_for(lambda: runs.steps_seen(output) >= more + 5, 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 75, log.read_text()
    steps = runs.curve(output)
    assert set(steps) == set(range(1, max(steps) + 1))
    # The global batch stayed what the config says: every epoch saw every token that is learned.
    learned = runs.curve(output, "train/learned_tokens")
    epochs = max(learned) // 9
    sums = {sum(learned[9 * epoch + step] for step in range(1, 10)) for epoch in range(epochs)}
    assert epochs >= 3
    assert len(sums) == 1


def test_workers_of_a_fixed_number(two_nodes: Nodes, new_run: NewRun) -> None:
    """Both fit on what is left, and end with the same bits."""
    env, say = two_nodes
    config, output = new_run(epochs=40)
    reference, theirs = new_run(epochs=40)
    assert runs.train(reference, env=env).code == 0
    with runs.started(config, "--set", "train.resources_per_worker={CPU: 1}", env=env) as process:
        runs.wait_for(lambda: runs.steps_seen(output) >= 5, 180)
        say("kill")
        assert process.wait(240) == 0, process.log.read_text()  # type: ignore[attr-defined]
    assert runs.weights(output) == runs.weights(theirs)
    assert runs.curve(output) == runs.curve(theirs)
