"""The journal is all that a study knows of its earlier starts."""

from __future__ import annotations

from pathlib import Path

from crlft_ray.tuning.journal import Journal


def test_it_tells_what_became_of_each_trial(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "study" / "trials.jsonl")
    journal.started("000", {"a": 1})
    journal.reported("000", {"score": 3.0, "step": 4, "tokens": 40, "se": float("nan")})
    journal.started("001", {"a": 2})
    journal.reported("000", {"score": 2.0, "step": 8, "tokens": 80, "finished": True})
    journal.ended("000", "finished")
    journal.ended("001", "failed", "it broke")
    first, second = Journal(tmp_path / "study" / "trials.jsonl").trials().values()
    assert (first.trial, first.values, first.state, first.curve) == ("000", {"a": 1}, "finished", [(4, 3.0), (8, 2.0)])
    assert (first.score, first.step, first.tokens) == (2.0, 8, 80)
    assert (second.state, second.error, second.curve) == ("failed", "it broke", [])


def test_a_finished_trial_needs_no_word_of_its_end(tmp_path: Path) -> None:
    """Where its last report uses the budget up, Tune ends the study and says no more of it."""
    journal = Journal(tmp_path / "trials.jsonl")
    journal.started("000", {})
    journal.reported("000", {"score": 2.0, "step": 8, "tokens": 80, "finished": True})
    assert journal.trials()["000"].state == "finished"
    journal.started("000", {})
    assert journal.trials()["000"].state == "running"


def test_a_step_that_is_reported_again_counts_once(tmp_path: Path) -> None:
    """A trial that goes on after a restart reports its earlier steps, too."""
    journal = Journal(tmp_path / "trials.jsonl")
    journal.started("000", {})
    for step in (4, 8, 4, 8, 12):
        journal.reported("000", {"score": float(step), "step": step, "tokens": step})
    (log,) = journal.trials().values()
    assert log.curve == [(4, 4.0), (8, 8.0), (12, 12.0)]


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    journal = Journal(path)
    journal.started("000", {})
    with path.open("ab") as file:
        file.write(b'{"event": "ended", "tri')
    journal = Journal(path)
    journal.started("001", {})
    assert list(journal.trials()) == ["000", "001"]
