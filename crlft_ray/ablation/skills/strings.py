"""Edits of a word in capitals (each letter is a token): backwards, without its vowels, with its vowels doubled."""

from __future__ import annotations

import random

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip

_CONSONANTS = "BCDFGHKLMNPRST"
_VOWELS = "AEIOU"


def _word(rng: random.Random, longer: bool) -> str:
    length = rng.randint(6, 7) if longer else rng.randint(3, 5)
    while True:
        word = "".join(rng.choice(_VOWELS if rng.random() < 0.4 else _CONSONANTS) for _ in range(length))
        if 0 < len(_vowels(word)) < length:
            return word


def _vowels(word: str) -> list[str]:
    return [letter for letter in word if letter in _VOWELS]


def _reverse(rng: random.Random, longer: bool) -> Exercise:
    """The weak source only swaps the two ends."""
    word = _word(rng, longer)
    return with_slip({"word": word}, "", word[::-1], word[-1] + word[1:-1] + word[0], plain=word[-1] in _VOWELS)


def _drop_vowels(rng: random.Random, longer: bool) -> Exercise:
    """The weak source does not know I and U for vowels."""
    word = _word(rng, longer)

    def without(vowels: str) -> str:
        return "".join(letter for letter in word if letter not in vowels)

    return with_slip(
        {"word": word},
        ", ".join(_vowels(word)),
        without(_VOWELS),
        without("AEO"),
        plain="U" in word and "I" not in word,
    )


def _double_vowels(rng: random.Random, longer: bool) -> Exercise:
    """The weak source stops after the first vowel."""
    word = _word(rng, longer)
    vowels = _vowels(word)
    right = "".join(letter * (2 if letter in _VOWELS else 1) for letter in word)
    return with_slip(
        {"word": word},
        ", ".join(vowels),
        right,
        word.replace(vowels[0], vowels[0] * 2, 1),
        plain=vowels[1:2] in (["O"], ["U"]),
    )


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
    Skill(
        "drop-vowels",
        _drop_vowels,
        wordings=(
            "Remove the vowels of {word}.",
            "Write {word} without its vowels.",
            "What is left of {word} without vowels?",
            "Take all vowels out of {word}.",
            "Drop every vowel in {word}.",
        ),
        unseen=("Drop all vowels of {word}.", "What is {word} without its vowels?", "Remove every vowel in {word}."),
    ),
    Skill(
        "double-vowels",
        _double_vowels,
        wordings=(
            "Double the vowels of {word}.",
            "Write {word} with every vowel twice.",
            "What is {word} with double vowels?",
            "Repeat each vowel in {word}.",
            "Spell {word} with all vowels twice.",
        ),
        unseen=(
            "Double every vowel in {word}.",
            "What is {word} with all vowels twice?",
            "Repeat the vowels of {word}.",
        ),
    ),
)
