"""One cluster of three hosts for most tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, three_hosts
from tests.cluster.longer import undisturbed_run


@pytest.fixture(scope="package")
def undisturbed(cluster: Cluster) -> Path:
    """Output of a training that other ones have to end as, whatever happens to them."""
    return undisturbed_run(cluster)


@pytest.fixture(scope="package")
def cluster(tiny_model: Path) -> Iterator[Cluster]:
    with three_hosts(tiny_model) as made:
        yield made
