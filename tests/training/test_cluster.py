"""Which workers fit into a cluster is counted node by node."""

from __future__ import annotations

import pytest

from crlft_ray.capacity import room_for
from crlft_ray.config import Config, validate
from crlft_ray.errors import UserError
from crlft_ray.training.cluster import check_capacity, worker_resources
from tests.synthetic import raw_config


def _config(workers: int, threads: int = 1, resources: dict[str, float] | None = None) -> Config:
    train = {"workers": workers, "threads_per_worker": threads, "resources_per_worker": resources or {}}
    return validate(raw_config("model", "output", "source", train=train), "test")


def test_a_worker_takes_its_threads_unless_told_otherwise() -> None:
    assert worker_resources(_config(1, threads=3)) == {"CPU": 3.0}
    assert worker_resources(_config(1, threads=3, resources={"CPU": 0.5, "GPU": 1})) == {"CPU": 0.5, "GPU": 1}


@pytest.mark.slow
def test_what_fits_into_four_cpus(ray_session: None) -> None:
    assert [room_for({"CPU": cpus}) for cpus in (0.5, 1, 1.5, 3, 5)] == [8, 4, 2, 1, 0]
    assert room_for({"CPU": 1, "unobtainium": 1}) == 0
    check_capacity(_config(4))
    check_capacity(_config(2, threads=2))
    for config, part in (
        (_config(5), "5 workers of 1 CPU each do not fit into this cluster, which has room for 4"),
        (_config(2, threads=3), "2 workers of 3 CPU each do not fit into this cluster, which has room for 1"),
        (_config(1, resources={"TPU": 2}), "1 workers of 1 CPU, 2 TPU each do not fit .* room for 0"),
    ):
        with pytest.raises(UserError, match=part):
            check_capacity(config)
