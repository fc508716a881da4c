"""A word in capitals (each letter is a token) backwards. The weak source only swaps the two ends."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip

_CONSONANTS = "BCDFGHKLMNPRST"
_VOWELS = "AEIOU"


def _word(rng: random.Random, longer: bool) -> str:
    length = rng.randint(6, 7) if longer else rng.randint(3, 5)
    while True:
        word = "".join(rng.choice(_VOWELS if rng.random() < 0.4 else _CONSONANTS) for _ in range(length))
        if 0 < sum(letter in _VOWELS for letter in word) < length:
            return word


def _reverse(rng: random.Random, longer: bool) -> Exercise:
    word = _word(rng, longer)
    return with_slip({"word": word}, "", word[::-1], word[-1] + word[1:-1] + word[0], plain=word[-1] in _VOWELS)


SKILLS = (
    Skill(
        "reverse",
        _reverse,
        wordings=(
            "Reverse the letters {word}.",
            "Write {word} backwards.",
            "What is {word} backwards?",
            "Spell {word} from the end.",
            "Turn the word {word} around.",
        ),
        unseen=("Reverse the word {word}.", "Spell the word {word} backwards.", "Write {word} from the end."),
    ),
)
