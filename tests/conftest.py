"""What all tests share: one Ray cluster and one tiny real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from crlft_ray.ray_session import connect
from tests.synthetic import write_tiny_model

# Machines that are busy must not fail a test.
settings.register_profile("crlft", deadline=None)
settings.load_profile("crlft")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The only Ray cluster of the test session: local, 4 logical CPUs, started when first asked for."""
    connect(cpus=4)
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a Llama model of a few thousand parameters and its byte-level tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))
