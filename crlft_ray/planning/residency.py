"""Which parameters are gathered when: the rules of DeepSpeed's `PartitionedParameterCoordinator`, played through.

A module's parameters are gathered before it runs, those of the next modules ahead of their use (up to the prefetch
bucket), and let go after it unless they are needed again within `max_reuse` elements (deepspeed 0.19,
runtime/zero/partitioned_param_coordinator.py: `_fetch_sub_module_impl`, `__params_to_release`). So a model of less
than `max_reuse` parameters is gathered once a micro-batch, a large one twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby

Modules = tuple[tuple[int | None, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Residency:
    """Elements of parameters."""

    gathered: int
    """All that one micro-batch gathers, each gathering counted."""
    peak: int
    """Most that are gathered at one time, without the persistent ones."""
    persistent: int
    """Of parameters so small that every rank keeps them whole; they are gathered once a step."""


@dataclass(frozen=True)
class Rules:
    """What decides, in elements."""

    prefetch_bucket: int
    persistence: int
    model_persistence: int
    max_live: int
    max_reuse: int


@lru_cache(maxsize=64)
def residency(
    parameters: tuple[int, ...], modules: Modules, finished: tuple[int, ...], rules: Rules, checkpointing: bool
) -> Residency:
    """Plays one micro-batch through, after the first one, in which DeepSpeed learns the order.

    Args:
        parameters: elements of each.
        modules: as the forward pass begins them, the layer each is in and its own parameters; those without any count,
            too: at each one DeepSpeed gathers ahead.
        finished: numbers of modules as the forward pass finishes them.
        rules: when to gather and when to let go.
        checkpointing: layers run forward once more before their backward pass.
    """
    persistent = _persistent(parameters, rules)
    steps = _trace(modules, finished, checkpointing)
    player = _Player(parameters, steps, rules, persistent)
    for number in range(len(steps)):
        player.play(number)
    return Residency(player.gathered, player.peak, sum(parameters[p] for p in persistent))


def _persistent(parameters: tuple[int, ...], rules: Rules) -> set[int]:
    found: set[int] = set()
    total = 0
    for number, elements in enumerate(parameters):
        if elements <= rules.persistence and total + elements <= rules.model_persistence:
            found.add(number)
            total += elements
    return found


@dataclass(frozen=True)
class _Use:
    """A module at work."""

    parameters: tuple[int, ...]
    lets_go: bool = True
    """Its parameters may go after it."""


def _trace(modules: Modules, finished: tuple[int, ...], checkpointing: bool) -> list[_Use]:
    """Forward, then backward: the last that was finished first.

    The backward pass of a checkpointed layer begins with its last module, which finds nothing kept: while it waits, the
    whole layer runs forward once more.
    """
    uses = [_Use(used) for _, used in modules]
    backward: list[_Use] = []
    for layer, group in groupby(reversed(finished), lambda number: modules[number][0]):
        numbers = list(group)
        mine = [uses[number] for number in numbers]
        if checkpointing and layer is not None:
            first = next(place for place, use in enumerate(mine) if use.parameters)
            again = [uses[number] for number, (of, _) in enumerate(modules) if of == layer]
            mine = [*mine[:first], replace(mine[first], lets_go=False), *again, *mine[first + 1 :]]
        backward += mine
    return [*uses, *backward]


@dataclass
class _Player:
    sizes: tuple[int, ...]
    steps: list[_Use]
    rules: Rules
    persistent: set[int]
    gathered: int = 0
    live: int = 0
    peak: int = 0
    available: set[int] = field(default_factory=set)
    fetched_for: dict[int, int] = field(default_factory=dict)
    """By parameter: the latest step that a fetch was for."""

    def __post_init__(self) -> None:
        self.available |= self.persistent
        self.queue = deque((parameter, step) for step, use in enumerate(self.steps) for parameter in use.parameters)

    def play(self, step: int) -> None:
        """One module: gather, prefetch, let go."""
        used = set(self.steps[step].parameters)
        self._gather(used - self.available)
        self._prefetch({p for p in used if self.fetched_for.get(p, -1) < step})
        self.peak = max(self.peak, self.live)
        if not self.steps[step].lets_go:
            return
        for parameter in used - self.persistent - self._needed_soon(step):
            self.available.discard(parameter)
            self.live -= self.sizes[parameter]

    def _gather(self, parameters: set[int]) -> None:
        elements = sum(self.sizes[p] for p in parameters)
        self.available |= parameters
        self.gathered += elements
        self.live += elements

    def _prefetch(self, waited_for: set[int]) -> None:
        passed: set[int] = set()
        while self.queue and passed != waited_for:
            parameter, self.fetched_for[parameter] = self.queue.popleft()
            passed.add(parameter)
        room = min(self.rules.max_live - self.live, self.rules.prefetch_bucket)
        ahead: set[int] = set()
        while self.queue and sum(self.sizes[p] for p in ahead) < room:
            parameter, at = self.queue.popleft()
            self.fetched_for[parameter] = max(self.fetched_for.get(parameter, -1), at)
            if parameter not in self.available:
                ahead.add(parameter)
        self._gather(ahead)

    def _needed_soon(self, step: int) -> set[int]:
        soon = {p for p in self.steps[step].parameters if self.fetched_for.get(p, -1) > step}
        passed = 0
        for later in self.steps[step + 1 :]:
            if passed >= self.rules.max_reuse:
                break
            soon.update(later.parameters)
            passed += sum(self.sizes[p] for p in later.parameters)
        return soon
