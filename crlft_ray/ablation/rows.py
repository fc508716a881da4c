"""The rows of the ablation: what each learns from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crlft_ray.ablation.sources import SourceName
from crlft_ray.ablation.world import World


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
    group: str = "six"
    """Which comparison it belongs to."""
    place: float | None = None
    """Where it stands on the axis of that comparison."""
    paper: float | None = None
    """The paper's mean win rate of this row."""

    def world_of(self, seed: int, conversations: int, expert_share: float) -> World:
        """Its world."""
        return World(seed=seed, conversations=conversations, **{"expert_share": expert_share, **self.world})

    @property
    def best(self) -> SourceName:
        """The class that it is asked as."""
        return "expert" if "expert" in self.weights else next(iter(self.weights))


_CRLFT: Mapping[SourceName, float] = {"expert": 1.0, "weak": 0.1}
_EXPERT: Mapping[SourceName, float] = {"expert": 1.0}
_EQUAL: Mapping[SourceName, float] = {"expert": 1.0, "weak": 1.0}

CRLFT = "C-RLFT"
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

_SHARES = (0.01, 0.02, 0.1, 0.2, 0.5)
_WEIGHTS = (0.0, 0.01, 0.03, 0.3)
_MISLABELLED = (0.1, 0.2, 0.4)


def further_rows() -> tuple[Row, ...]:
    """Expert share, class weight, mislabelled sources, and a third class; the six rows are the points between."""
    rows: list[Row] = []
    for share in _SHARES:
        world = {"expert_share": share}
        for name, weights, conditioned in (
            (CRLFT, _CRLFT, True),
            (EVERYTHING, _EQUAL, False),
            (ONLY_EXPERT, _EXPERT, False),
        ):
            rows.append(Row(f"{name}, {share:.0%} expert", weights, conditioned, world, "expert share", share))
    for weight in _WEIGHTS:
        rows.append(Row(f"{CRLFT}, weight {weight:g}", {"expert": 1.0, "weak": weight}, group="weight", place=weight))
    for share in _MISLABELLED:
        world = {"mislabelled": share}
        for name, weights, conditioned in ((CRLFT, _CRLFT, True), (NO_REWARD, _EQUAL, True)):
            rows.append(Row(f"{name}, {share:.0%} mislabelled", weights, conditioned, world, "mislabelled", share))
    middle: dict[SourceName, float] = {"expert": 1.0, "middle": 0.3, "weak": 0.1}
    rows.append(Row(f"{CRLFT}, three classes", middle, world={"middle_share": 0.3}, group="three classes"))
    merged = {"middle_share": 0.3}
    rows.append(Row(f"{EVERYTHING}, three sources", dict.fromkeys(middle, 1.0), False, merged, group="three classes"))
    return tuple(rows)
