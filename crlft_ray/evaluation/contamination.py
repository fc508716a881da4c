"""Which questions of a suite occur in the training conversations: n-gram overlap, once per shard folder and suite."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crlft_ray.evaluation.suites import Question, Suite
from crlft_ray.json_text import json_text
from crlft_ray.shards.manifest import Manifest, read_manifest, read_tokenizer
from crlft_ray.shards.shard import pack_of
from crlft_ray.shards.stream import PackReader
from crlft_ray.shards.tasks import run_tasks
from crlft_ray.storage import Place

WORDS = 13
"""Words in a row that are too many for chance (the length that GPT-3's report uses)."""
_EXAMPLES = 5
_PACKS_PER_TASK = 256
# What the suites' files write around every question.
_FORMAT = re.compile(r"\bAnswer Choices:|\bQ:|\nA: Among [^\n]*, the answer is$")

Key = tuple[str, str]
"""A question: its task and its id."""


@dataclass(frozen=True)
class Contamination:
    """What of a suite is in the training data."""

    suite: str
    digest: str
    """Of the suite's questions."""
    questions: int
    overlapping: int
    """Questions that share 13 words in a row with a conversation."""
    occurring: list[Key]
    """Questions whose whole wording is in one conversation."""
    examples: list[dict[str, str]]
    """Task, question, and the words found, for some of the overlapping questions."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def words(text: str) -> list[str]:
    """A text without case, punctuation and white space, which layouts differ in."""
    return re.findall(r"\w+", text.lower())


def contamination(shards: Place, suite: Suite) -> Contamination:
    """Looks for the suite's questions in the conversations of a shard folder, or finds it done.

    The result is kept in `contamination/` in the shard folder. Ray must be connected.
    """
    place = shards / "contamination" / f"{suite.name.replace(':', '-')}-{suite.digest[:12]}.json"
    if place.exists():
        kept = json.loads(place.read_text())
        return Contamination(**{**kept, "occurring": [(task, id) for task, id in kept["occurring"]]})
    manifest = read_manifest(shards)
    grams = _Grams.of(suite.questions)
    ranges = [
        (first, min(first + _PACKS_PER_TASK, manifest.packs)) for first in range(0, manifest.packs, _PACKS_PER_TASK)
    ]
    parts = run_tasks(_search, ranges, shards=shards, manifest=manifest, grams=grams)
    found = _Found.together(parts)
    keys = [(question.task, question.id) for question in suite.questions]
    result = Contamination(
        suite=suite.name,
        digest=suite.digest,
        questions=len(keys),
        overlapping=len(found.overlapping),
        occurring=[keys[number] for number in sorted(found.whole)],
        examples=[
            {"task": keys[number][0], "question": keys[number][1], "words": found.overlapping[number]}
            for number in sorted(found.overlapping, key=lambda number: (number not in found.whole, number))[:_EXAMPLES]
        ],
    )
    place.parent.make_folder()
    place.write_text(json_text(result.to_dict(), indent=1) + "\n")
    return result


@dataclass(frozen=True)
class _Grams:
    """The words in a row that are looked for."""

    overlap: dict[str, list[int]]
    """`WORDS` words → the questions they are in, anywhere (also in a passage)."""
    wording: dict[int, dict[str, list[int]]]
    """Length → words of that many → the questions whose wording they are part of."""
    needed: list[int]
    """How many of its `wording` entries make up a question."""

    @classmethod
    def of(cls, questions: Sequence[Question]) -> _Grams:
        found = cls({}, {}, [])
        for number, question in enumerate(questions):
            everything = words(_FORMAT.sub(" ", question.text))
            wording = words(_FORMAT.sub(" ", question.text.rpartition("Q: ")[2]))
            if len(wording) < WORDS:
                wording = everything
            for gram in set(_rows(everything, WORDS)):
                found.overlap.setdefault(gram, []).append(number)
            length = min(WORDS, len(wording))
            parts = set(_rows(wording, length)) if length else set()
            for gram in parts:
                found.wording.setdefault(length, {}).setdefault(gram, []).append(number)
            found.needed.append(len(parts))
        return found


@dataclass(frozen=True)
class _Found:
    overlapping: dict[int, str]
    whole: set[int]

    @classmethod
    def together(cls, parts: Sequence[_Found]) -> _Found:
        overlapping: dict[int, str] = {}
        for part in parts:
            for number, gram in part.overlapping.items():
                overlapping[number] = min(gram, overlapping.get(number, gram))
        return cls(overlapping, {number for part in parts for number in part.whole})


def _rows(found: Sequence[str], length: int) -> list[str]:
    return [" ".join(found[first : first + length]) for first in range(len(found) - length + 1)]


def _search(first: int, last: int, shards: Place, manifest: Manifest, grams: _Grams) -> _Found:
    """The task: the packs [first, last)."""
    tokenizer = read_tokenizer(shards)
    reader = PackReader(shards, manifest)
    overlapping: dict[int, str] = {}
    whole: set[int] = set()
    for number in range(first, last):
        pack = pack_of(reader(number))
        ends = pack.lengths_C.cumsum()
        for start, end in zip(ends - pack.lengths_C, ends, strict=True):
            # With control tokens: without them the last word of a turn and the first of the next would be one.
            text = tokenizer.backend.decode(pack.input_ids_T[start:end].tolist(), skip_special_tokens=False)
            _look(words(text), grams, overlapping, whole)
    return _Found(overlapping, whole)


def _look(conversation: list[str], grams: _Grams, overlapping: dict[int, str], whole: set[int]) -> None:
    for gram in set(_rows(conversation, WORDS)):
        for question in grams.overlap.get(gram, ()):
            overlapping[question] = min(gram, overlapping.get(question, gram))
    matched: dict[int, int] = {}
    for length, parts in grams.wording.items():
        for gram in set(_rows(conversation, length)):
            for question in parts.get(gram, ()):
                matched[question] = matched.get(question, 0) + 1
    whole.update(question for question, count in matched.items() if count == grams.needed[question])
