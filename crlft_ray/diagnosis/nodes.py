"""The nodes of the cluster, and a way to run a function on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crlft_ray.config import Config

START_S = 60.0
"""How long a node may take to start a worker process."""
_AT_ONCE = 8
"""Calls that a node runs at the same time: one that hangs holds up no other."""


@dataclass(frozen=True)
class Node:
    """One node that Ray calls alive."""

    name: str
    """Its address; with its name or id, where those tell more."""
    id: str
    address: str
    resources: Mapping[str, float]

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True)
class Answer:
    """What a function returned on a node, or why it did not."""

    value: Any = None
    error: str | None = None


class Cluster:
    """Nodes that answer, each with an actor that runs what it is asked."""

    def __init__(self, config: Config | None, probes: Mapping[Node, Any]) -> None:
        self.config = config
        self._probes = dict(probes)

    @property
    def nodes(self) -> list[Node]:
        return list(self._probes)

    def ask(self, function: Callable[..., Any], *arguments: Any, seconds: float = 30.0) -> dict[Node, Answer]:
        """Runs `function(*arguments)` on every node at once."""
        return self.ask_each(function, dict.fromkeys(self.nodes, arguments), seconds)

    def ask_each(
        self, function: Callable[..., Any], arguments: Mapping[Node, tuple[Any, ...]], seconds: float = 30.0
    ) -> dict[Node, Answer]:
        """Runs `function(*arguments[node])` on these nodes at once; who is late, is not waited for."""
        import ray

        asked = {node: self._probes[node].run.remote(function, *given) for node, given in arguments.items()}
        done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds) if asked else ([], [])
        late = Answer(error=f"no answer within {seconds:.0f} s")
        return {node: _answer(reference) if reference in done else late for node, reference in asked.items()}

    def forget(self, node: Node) -> None:
        """Asks this node nothing from now on."""
        del self._probes[node]


class _Probe:
    """An actor on a node."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
        """Result and error; an exception of the node's own kind might not exist at the driver."""
        try:
            return function(*arguments), None
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            return None, f"{type(error).__name__}: {lines[0][:300]}"


@contextmanager
def opened(config: Config | None, nodes: list[Node], resources: Mapping[str, float] | None = None) -> Iterator[Cluster]:
    """Starts an actor on each node, by default one that takes no CPU, and ends it afterwards. Ray is connected."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    import crlft_ray.diagnosis
    import crlft_ray.network

    by_value = (crlft_ray.diagnosis, crlft_ray.network)
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    probes: dict[Node, Any] = {}
    try:
        for node in nodes:
            pinned = NodeAffinitySchedulingStrategy(node.id, soft=False)
            options = {"num_cpus": 0, **(resources or {}), "scheduling_strategy": pinned, "max_concurrency": _AT_ONCE}
            probes[node] = ray.remote(**options)(_Probe).remote()
        yield Cluster(config, probes)
    finally:
        for probe in probes.values():
            ray.kill(probe)
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def alive_nodes() -> list[Node]:
    """The cluster's nodes, by address; each with a name of its own."""
    import ray

    found = sorted(
        (node for node in ray.nodes() if node["Alive"]), key=lambda node: (node["NodeManagerAddress"], node["NodeID"])
    )
    names = [_name(node) for node in found]
    often = Counter(names)
    return [
        Node(
            name=name if often[name] == 1 else f"{name} ({node['NodeID'][:8]})",
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            resources=node["Resources"],
        )
        for name, node in zip(names, found, strict=True)
    ]


def _name(node: Mapping[str, Any]) -> str:
    address, given = node["NodeManagerAddress"], node.get("NodeName") or ""
    return f"{given} ({address})" if given and given != address else str(address)


def _answer(reference: Any) -> Answer:
    import ray

    try:
        value, error = ray.get(reference)
    except ray.exceptions.RayError as failure:
        lines = [line for line in str(failure).strip().splitlines() if line.strip()]
        return Answer(error=f"{type(failure).__name__}: {lines[-1].strip() if lines else ''}")
    return Answer(value, error)
