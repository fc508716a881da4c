"""The rows of the ablation: what each learns from, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from crlft_ray.ablation.sources import SourceName
from crlft_ray.ablation.world import World
from crlft_ray.errors import UserError

Group = Literal["six", "share", "weight", "mislabelled", "classes", "longer"]
CRLFT = "C-RLFT"
WRONG_CONDITION = f"{CRLFT}, asked as the sub-optimal class"
"""No row of its own: the models of the first, asked under another condition."""


@dataclass(frozen=True)
class Row:
    """One way of learning from a world."""

    name: str
    weights: Mapping[SourceName, float]
    """Of the classes that it learns from, and no others."""
    conditioned: bool = True
    """Whether the role prefixes name the class."""
    world: Mapping[str, float] = field(default_factory=dict)
    """What differs from the world that the six rows share."""
    group: Group = "six"
    """Which comparison it belongs to."""
    against: str = CRLFT
    """The row that it is compared with: C-RLFT on the same conversations."""
    place: float | None = None
    """Where it stands on the axis of that comparison."""
    paper: float | None = None
    """The paper's mean win rate of this row."""
    times: int = 1
    """How many times the steps of the other rows it is trained for."""

    def world_of(self, seed: int, conversations: int, expert_share: float) -> World:
        """Its world."""
        return World(seed=seed, conversations=conversations, **{"expert_share": expert_share, **self.world})

    def condition(self, name: SourceName) -> str:
        """The text in a class's role prefixes."""
        return name if self.conditioned else ""

    @property
    def best(self) -> SourceName:
        """The class that it is asked as."""
        return "expert" if "expert" in self.weights else next(iter(self.weights))


_CRLFT: Mapping[SourceName, float] = {"expert": 1.0, "weak": 0.1}
_EXPERT: Mapping[SourceName, float] = {"expert": 1.0}
_EQUAL: Mapping[SourceName, float] = {"expert": 1.0, "weak": 1.0}

NO_REWARD = "without the reward"
NO_CONDITION = "without the condition"
EVERYTHING = "plain SFT on everything"
ONLY_EXPERT = "only the expert data"
ONLY_WEAK = "only the sub-optimal data"

SIX = (
    Row(CRLFT, _CRLFT, paper=77.3),
    Row(NO_REWARD, _EQUAL, paper=74.0),
    Row(ONLY_EXPERT, _EXPERT, conditioned=False, paper=64.5),
    Row(NO_CONDITION, _CRLFT, conditioned=False, paper=60.5),
    Row(EVERYTHING, _EQUAL, conditioned=False, paper=52.7),
    Row(ONLY_WEAK, {"weak": 1.0}, conditioned=False, paper=42.8),
)

# The six rows have a share of 5 %, weights of 0.1 and 1, and right tags.
_SHARES = (0.01, 0.5)
_WEIGHTS = (0.0, 0.3)
_MISLABELLED = (0.1, 0.4)
_TIMES = 3


def all_rows() -> tuple[Row, ...]:
    """Every row there is."""
    return (*SIX, *_by_share(), *_by_weight(), *_by_mislabelled(), *_by_classes(), *_longer())


def rows_of(*, further: bool = False, named: str = "") -> tuple[Row, ...]:
    """The paper's six rows, with `further` all that are trained for as many steps; or the row that is called `named`,
    or else those whose names contain it, and what they are compared with.

    Raises:
        UserError: no row has such a name.
    """
    if not named:
        return tuple(row for row in all_rows() if row.times == 1) if further else SIX
    everything = all_rows()
    chosen = [row for row in everything if row.name == named] or [row for row in everything if named in row.name]
    if not chosen:
        names = "\n  ".join(row.name for row in everything)
        raise UserError(f"rows: no row's name contains '{named}'; the rows are\n  {names}")
    needed = {row.name for row in chosen} | {row.against for row in chosen}
    return tuple(row for row in everything if row.name in needed)


def weight_rows(rows: Iterable[Row]) -> list[Row]:
    """Those that differ in nothing but the weight of the sub-optimal class; none if there are only the six rows'."""
    rows = list(rows)
    if not any(row.group == "weight" for row in rows):
        return []
    return [row for row in rows if row.group == "weight" or row.name in (CRLFT, NO_REWARD)]


def _by_share() -> tuple[Row, ...]:
    rows: list[Row] = []
    for share in _SHARES:
        world, against = {"expert_share": share}, f"{CRLFT}, {share:.0%} expert"
        for name, weights, conditioned in (
            (CRLFT, _CRLFT, True),
            (NO_REWARD, _EQUAL, True),
            (ONLY_EXPERT, _EXPERT, False),
            (EVERYTHING, _EQUAL, False),
        ):
            rows.append(Row(f"{name}, {share:.0%} expert", weights, conditioned, world, "share", against, share))
    return tuple(rows)


def _by_weight() -> tuple[Row, ...]:
    return tuple(
        Row(f"{CRLFT}, weight {weight:g}", {"expert": 1.0, "weak": weight}, group="weight", place=weight)
        for weight in _WEIGHTS
    )


def _by_mislabelled() -> tuple[Row, ...]:
    """The same conversations, some under the other source's tag, so compared with C-RLFT under the right ones."""
    return tuple(
        Row(f"{CRLFT}, {share:.0%} mislabelled", _CRLFT, world={"mislabelled": share}, group="mislabelled", place=share)
        for share in _MISLABELLED
    )


def _by_classes() -> tuple[Row, ...]:
    weights: dict[SourceName, float] = {"expert": 1.0, "middle": 0.3, "weak": 0.1}
    world, against = {"middle_share": 0.3}, f"{CRLFT}, three classes"
    return (
        Row(against, weights, world=world, group="classes", against=against),
        Row(f"{EVERYTHING}, three sources", dict.fromkeys(weights, 1.0), False, world, "classes", against),
    )


def _longer() -> tuple[Row, ...]:
    """Where the expert's data are fewest: whether a row is behind another one because it learns more slowly."""
    share = min(_SHARES)
    # Not "1% expert": `--rows` with that means the rows of the usual length.
    world, what = {"expert_share": share}, f"{share:.0%}, {_TIMES} times the steps"
    against = f"{CRLFT}, {what}"
    return (
        Row(against, _CRLFT, True, world, "longer", against, times=_TIMES),
        Row(f"{EVERYTHING}, {what}", _EQUAL, False, world, "longer", against, times=_TIMES),
    )
