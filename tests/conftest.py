"""What all tests share: one Ray cluster and one tiny real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crlft_ray.ray_session import connect
from tests.synthetic import write_tiny_model


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
