"""The gate's decision: a matrix of better, equal and worse than base and champion, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from crlft_ray.evaluation.answers import Answer
from crlft_ray.registry.gate import decide
from tests.evaluation.made_answers import answers, difficulties, drawn

LEVELS = {"worse": 0.3, "equal": 0.5, "better": 0.75}


def _models(seed: int = 0) -> dict[str, list[Answer]]:
    rng = np.random.default_rng(seed)
    difficulty = difficulties(rng)
    return {name: drawn(rng, skill, difficulty) for name, skill in LEVELS.items()}


MODELS = _models()


@pytest.mark.parametrize("candidate", LEVELS)
@pytest.mark.parametrize("champion", [None, *LEVELS])
@pytest.mark.parametrize("base", LEVELS)
def test_the_matrix(candidate: str, champion: str | None, base: str) -> None:
    decision = decide(MODELS[candidate], MODELS[base], MODELS[champion] if champion else None)
    beats_base = LEVELS[candidate] > LEVELS[base]
    not_below = champion is None or LEVELS[candidate] >= LEVELS[champion]
    assert decision.promoted == (beats_base and not_below), decision.reason
    if not beats_base:
        assert "does not beat its base" in decision.reason
        assert "p = " in decision.reason
    elif not not_below:
        assert "below the champion" in decision.reason
    assert decision.versus_base is not None


def test_a_little_better_is_not_enough() -> None:
    base = answers([0] * 110 + [1] * 110)
    candidate = answers([1] * 2 + [0] * 108 + [1] * 110)
    decision = decide(candidate, base, None)
    assert not decision.promoted
    assert decision.versus_base is not None
    assert decision.versus_base.difference > 0
    assert "above the level of 0.05" in decision.reason
    assert decide(candidate, base, None, level=0.6).promoted


def test_missing_scores() -> None:
    better = MODELS["better"]
    for candidate, base, words in (([], better, "no scores of the model"), (better, [], "no scores of the base model")):
        decision = decide(candidate, base, None)
        assert not decision.promoted
        assert words in decision.reason
    without = decide(better, MODELS["worse"], [])
    assert not without.promoted
    assert "cannot be compared with the champion" in without.reason


def test_scores_on_other_questions() -> None:
    better, worse = MODELS["better"], MODELS["worse"]
    decision = decide(better, worse[:-1], None)
    assert not decision.promoted
    assert "cannot be compared with its base" in decision.reason
    assert "not asked the same questions" in decision.reason
    decision = decide(better, worse, worse[1:])
    assert not decision.promoted
    assert "cannot be compared with the champion" in decision.reason


def test_questions_that_were_learned_do_not_count() -> None:
    """What a model knows by heart must not make it the champion."""
    base = answers([0, 1] * 110)
    learned = [("a", str(number)) for number in range(60)]
    candidate = answers([1] * 60 + [0, 1] * 80)
    assert decide(candidate, base, None).promoted
    decision = decide(candidate, base, None, occurring=learned)
    assert not decision.promoted
    assert "60 questions that occur in its training data do not count" in decision.reason
    assert decision.versus_base is not None
    assert (decision.versus_base.questions, decision.versus_base.left_out) == (160, 60)
    all_of_them = [(answer.task, answer.question) for answer in base]
    assert "no question is left" in decide(candidate, base, None, occurring=all_of_them).reason
