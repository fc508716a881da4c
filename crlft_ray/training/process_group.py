"""How the workers' process group is set up: as Ray Train does it, over the network of the nodes' Ray addresses."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchConfig

from crlft_ray.network import follow_ray_address


class GroupConfig(TorchConfig):  # type: ignore[misc]
    """Ray Train's settings of the process group; on several hosts gloo would else choose the loopback."""

    @property
    def backend_cls(self) -> type:
        return _Group


class _Group(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(follow_ray_address)
        super().on_start(worker_group, backend_config)
