"""The searcher goes on where the journal ends."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from crlft_ray.tuning.journal import TrialLog
from crlft_ray.tuning.searcher import StudySearcher
from crlft_ray.tuning.space import Domain

WEIGHT = {"weight": Domain("loguniform", (0.01, 1.0))}


def _ask(searcher: StudySearcher, count: int, score: Any = None) -> list[dict[str, Any]]:
    asked = []
    for number in range(count):
        asked.append(searcher.suggest(f"id{number}"))
        result = {"score": score(asked[-1]["values"]), "step": 1, "finished": True} if score else None
        searcher.on_trial_complete(f"id{number}", result, error=not score)
    return asked


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_values_lie_in_the_space_and_come_from_the_seed(kind: Literal["random", "tpe"]) -> None:
    one, same, other = (
        _ask(StudySearcher(WEIGHT, kind, "min", seed, []), 20, lambda values: values["weight"]) for seed in (1, 1, 2)
    )
    assert [trial["trial"] for trial in one] == [f"{n:03}" for n in range(20)]
    assert all(0.01 <= trial["values"]["weight"] <= 1.0 for trial in one)
    assert one == same
    assert one != other


def test_a_grid_is_visited_whole_also_in_two_parts() -> None:
    space = {"a": Domain("grid", (1, 2, 3)), "b": Domain("grid", ("x", "y"))}
    first = _ask(StudySearcher(space, "grid", "max", 0, []), 4, lambda values: float(values["a"]))
    past = [TrialLog(trial["trial"], trial["values"], "finished", [(1, 1.0)]) for trial in first]
    second = _ask(StudySearcher(space, "grid", "max", 0, past), 2, lambda values: float(values["a"]))
    assert sorted((t["values"]["a"], t["values"]["b"]) for t in [*first, *second]) == [
        (a, b) for a in (1, 2, 3) for b in ("x", "y")
    ]
    assert [trial["trial"] for trial in second] == ["004", "005"]


def test_trials_that_were_cut_off_come_first() -> None:
    past = [
        TrialLog("000", {"weight": 0.5}, "finished", [(8, 1.0)]),
        TrialLog("001", {"weight": 0.02}, "running", [(4, 2.0)]),
        TrialLog("002", {"weight": 0.3}, "stopped early", [(4, 3.0)]),
        TrialLog("003", {"weight": 0.4}, "failed", []),
    ]
    searcher = StudySearcher(WEIGHT, "tpe", "min", 0, past)
    assert searcher.suggest("a") == {"trial": "001", "values": {"weight": 0.02}}
    assert searcher.suggest("b")["trial"] == "004"
    searcher.on_trial_complete("a", {"score": 1.5, "step": 8, "finished": True})
    searcher.on_trial_complete("b", {"score": 2.5, "step": 4})


def test_names_are_new_where_a_later_trial_began_first() -> None:
    """000 was asked for, but the driver died before it began."""
    searcher = StudySearcher(WEIGHT, "random", "min", 0, [TrialLog("001", {"weight": 0.02}, "running", [])])
    assert [searcher.suggest(id)["trial"] for id in "abc"] == ["001", "002", "003"]


def test_tpe_learns_from_the_past() -> None:
    """After 30 trials in which small weights are best, most new ones are small; a random search knows nothing."""
    weights = [10 ** (-2 + 2 * n / 29) for n in range(30)]
    past = [TrialLog(f"{n:03}", {"weight": w}, "finished", [(1, w)]) for n, w in enumerate(weights)]

    def share_of_small(kind: Literal["random", "tpe"], direction: Literal["min", "max"]) -> float:
        asked = _ask(StudySearcher(WEIGHT, kind, direction, 0, past), 30, lambda values: values["weight"])
        return sum(bool(trial["values"]["weight"] < 0.1) for trial in asked) / 30

    assert share_of_small("tpe", "min") > 0.8
    assert share_of_small("tpe", "max") < 0.2
    assert 0.2 < share_of_small("random", "min") < 0.8
