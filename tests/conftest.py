"""What all tests share: one Ray cluster and one tiny real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from crlft_ray.ray_session import connect
from tests.object_store import ObjectStore
from tests.runs import FinishedRun, finish_run, run_config, write_learnable
from tests.synthetic import write_tiny_model

# Machines that are busy must not fail a test.
settings.register_profile("crlft", deadline=None)
settings.load_profile("crlft")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The only Ray cluster of the test session: local, 4 logical CPUs, started when first asked for."""
    with pytest.MonkeyPatch.context() as environment:
        # Between tests there is more time than a process without work is kept for.
        environment.setenv("RAY_num_workers_soft_limit", "4")
        connect(cpus=4)
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 store in a process of its own."""
    store = ObjectStore()
    yield store
    store.end()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a Llama model of a few thousand parameters and its byte-level tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def finished(ray_session: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """One whole run of two workers, from conversations to an export; read only."""
    folder = tmp_path_factory.mktemp("finished")
    source = write_learnable(folder / "conversations.jsonl")
    return finish_run(folder, run_config(tiny_model, folder / "run", source, evaluate={"every": 4}))
