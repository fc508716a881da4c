"""A training that is long enough for something to happen to it, and what it has to end as."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.faults import runs

_TRAIN = {"epochs": 12, "checkpoint_every": 10}


def undisturbed_run(cluster: Cluster) -> Path:
    """Output of the training to which nothing happens."""
    config, output = cluster.new_run("undisturbed", train=_TRAIN)
    for stage in ("prepare", "train"):
        job = cluster.submit(f"{stage}-undisturbed", f"jobs/{stage}.py", config)
        assert job.returncode == 0, job.stdout
    return output


def repeated(cluster: Cluster, name: str, undisturbed: Path) -> tuple[Path, Path]:
    """Config and output of the same training, on the same shards."""
    return cluster.new_run(name, train=_TRAIN, data={"shards": str(undisturbed / "shards")})


def ends_as(output: Path, undisturbed: Path) -> None:
    """The exact-resume rule: the same bits, and one run in MLflow with each step once."""
    assert runs.weights(output) == runs.weights(undisturbed)
    assert runs.curve(output) == runs.curve(undisturbed)
