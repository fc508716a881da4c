"""Which settings would make a run fit: the smallest changes, tried one by one and together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crlft_ray.planning.gpus import Gpu
from crlft_ray.planning.memory import Memory, memory
from crlft_ray.planning.size import ModelSize
from crlft_ray.planning.zero import Zero

_SMALL_BUCKET = 50_000_000
_MOST = 4


@dataclass(frozen=True)
class Setup:
    """One way to run a model on a cluster."""

    size: ModelSize
    zero: Zero
    gpu: Gpu
    nodes: int
    gpus: int
    checkpointing: bool

    def memory(self) -> Memory:
        """What a rank holds."""
        return memory(
            self.size, self.zero, self.gpu, nodes=self.nodes, gpus=self.gpus, checkpointing=self.checkpointing
        )


@dataclass(frozen=True)
class Mend:
    """Changes that make it fit."""

    changes: tuple[str, ...]
    """As the config or the command line takes them."""
    peak: float
    """Bytes per GPU then."""
    host: float
    """Bytes of each node's memory then."""


@dataclass(frozen=True)
class _Change:
    text: str
    cost: int
    """What it costs in time or money, to try the cheap ones first."""
    make: Callable[[Setup], Setup]


def mends(setup: Setup, smaller_pack: tuple[int, ModelSize] | None) -> list[Mend]:
    """The cheapest sets of changes with which the setup fits; none of them contains another.

    Args:
        setup: what does not fit.
        smaller_pack: tokens of a pack as short as the context allows, and the model measured with it; None where it
            is as short already.
    """
    changes = _changes(setup, smaller_pack)
    sets = [
        chosen
        for count in range(1, len(changes) + 1)
        for chosen in itertools.combinations(changes, count)
        if sum(change.text.startswith("--nodes") for change in chosen) <= 1
    ]
    found: list[Mend] = []
    for chosen in sorted(sets, key=lambda chosen: sum(change.cost for change in chosen)):
        texts = tuple(change.text for change in chosen)
        if len(found) == _MOST:
            break
        if not any(_contains(texts, mend.changes) for mend in found):
            needed = _made(setup, chosen).memory()
            if needed.fits:
                found.append(Mend(texts, needed.peak, sum(figure.value for figure in needed.host.values())))
    return found


def _contains(texts: Sequence[str], fewer: Sequence[str]) -> bool:
    """More nodes where fewer were enough are no news, either."""
    nodes = [text for text in texts if text.startswith("--nodes")]
    return all(text in texts or (text.startswith("--nodes") and nodes) for text in fewer)


def _made(setup: Setup, chosen: Sequence[_Change]) -> Setup:
    for change in chosen:
        setup = change.make(setup)
    return setup


def _changes(setup: Setup, smaller_pack: tuple[int, ModelSize] | None) -> list[_Change]:
    found = []
    zero = setup.zero
    if not setup.checkpointing:
        found.append(
            _Change("train.gradient_checkpointing=true", 2, lambda before: replace(before, checkpointing=True))
        )
    if zero.reduce_bucket > _SMALL_BUCKET:
        text = f"train.deepspeed.zero_optimization.reduce_bucket_size={_SMALL_BUCKET}"
        found.append(_Change(text, 1, lambda before: _with_zero(before, reduce_bucket=_SMALL_BUCKET)))
    if smaller_pack is not None:
        tokens, size = smaller_pack
        # The numbers of modules and parameters are the same, so this can come before or after the others.
        found.append(_Change(f"data.pack_tokens={tokens}", 3, lambda before: replace(before, size=size)))
    if not zero.offload_optimizer:
        text = "train.deepspeed.zero_optimization.offload_optimizer.device=cpu"
        found.append(_Change(text, 6, lambda before: _with_zero(before, offload_optimizer=True)))
    if not zero.offload_parameters:
        text = "train.deepspeed.zero_optimization.offload_param.device=cpu"
        found.append(_Change(text, 7, lambda before: _with_zero(before, offload_parameters=True)))
    found += [_more_nodes(setup.nodes * times, cost) for times, cost in ((2, 5), (4, 8), (8, 11))]
    return found


def _more_nodes(nodes: int, cost: int) -> _Change:
    return _Change(f"--nodes {nodes}", cost, lambda before: replace(before, nodes=nodes))


def _with_zero(setup: Setup, **changes: int | bool) -> Setup:
    return replace(setup, zero=replace(setup.zero, **changes))  # type: ignore[arg-type]
