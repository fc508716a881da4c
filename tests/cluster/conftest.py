"""One cluster of three hosts for most tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, three_hosts


@pytest.fixture(scope="session")
def cluster(tiny_model: Path) -> Iterator[Cluster]:
    with three_hosts(tiny_model) as made:
        yield made
