"""The training conversations: questions of all skills, each answered by one of the sources and tagged with a class."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from crlft_ray.ablation.draw import Level, Talk, draw_talk
from crlft_ray.ablation.problems import problems
from crlft_ray.ablation.skills import SKILLS
from crlft_ray.ablation.sources import SOURCES, SourceName, reply

TEST_PROBLEMS: dict[Level, int] = {"in": 600, "longer": 300, "phrasing": 300}
_MOST_TRIES = 1000


@dataclass(frozen=True)
class Sample:
    """One conversation."""

    skill: str
    questions: tuple[str, ...]
    replies: tuple[str, ...]
    source: SourceName
    """Who answered."""
    tag: SourceName
    """The class it is filed under; another one where it is mislabelled."""

    def row(self) -> dict[str, object]:
        """In the `messages` format."""
        messages = []
        for question, answer in zip(self.questions, self.replies, strict=True):
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        return {"messages": messages, "skill": self.skill, "source": self.source, "tag": self.tag}


@dataclass(frozen=True)
class World:
    """A world is a pure function of these values.

    Worlds of one seed and size ask the same questions in the same order, whoever answers them, and the conversations
    of a smaller share (expert, middle or mislabelled) are among those of a larger one.
    """

    seed: int = 0
    conversations: int = 40_000
    expert_share: float = 0.05
    middle_share: float = 0.0
    """Above 0: a third class, of a source that is wrong in about 20 % of its answers."""
    mislabelled: float = 0.0
    """Share of the conversations that get another class's tag."""

    def __post_init__(self) -> None:
        shares = (self.expert_share, self.middle_share, self.mislabelled)
        if min(shares) < 0 or max(shares) > 1 or self.expert_share + self.middle_share > 1:
            raise ValueError(f"expert, middle and mislabelled shares must be shares of all conversations: {shares}")

    def samples(self) -> list[Sample]:
        """All conversations; no question occurs twice.

        Raises:
            ValueError: the skills have fewer questions than that.
        """
        sources = self._sources()
        told = zip(self._talks(), sources, self._tags(sources), strict=True)
        return [self._sample(number, *each) for number, each in enumerate(told)]

    def write(self, folder: Path) -> dict[SourceName, Path]:
        """Writes `<class>.jsonl` for each class by its tag, in the `messages` format, and says where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        lines: dict[SourceName, list[str]] = {}
        for sample in self.samples():
            lines.setdefault(sample.tag, []).append(json.dumps(sample.row()) + "\n")
        written = {}
        for tag in SOURCES:
            path = folder / f"{tag}.jsonl"
            if tag not in lines:
                # Of another world that was written here before.
                path.unlink(missing_ok=True)
                continue
            scratch = folder / f"{tag}.jsonl.{os.getpid()}.part"
            scratch.write_text("".join(lines[tag]), encoding="utf-8")
            scratch.rename(path)
            written[tag] = path
        return written

    def _sample(self, number: int, talk: Talk, source: SourceName, tag: SourceName) -> Sample:
        # A conversation's own stream: its words must not depend on who answers the others.
        manners = random.Random(f"manners {self.seed} {number}")
        replies = tuple(reply(source, exercise, manners) for exercise in talk.exercises)
        return Sample(talk.skill, talk.questions, replies, source, tag)

    def _talks(self) -> Iterator[Talk]:
        rng = random.Random(f"talks {self.seed}")
        asked: set[tuple[str, ...]] = set()
        for number in range(self.conversations):
            # Half of each skill's questions are ones that the weak source gets wrong.
            turn, which = divmod(number, len(SKILLS))
            skill = SKILLS[which]
            for _ in range(_MOST_TRIES):
                talk = draw_talk(rng, skill, "train", "in", slips=turn % 2 == 0)
                if talk.questions not in asked:
                    break
            else:
                raise ValueError(f"no {self.conversations} conversations: '{skill.name}' has no more questions")
            asked.add(talk.questions)
            yield talk

    def _order(self, purpose: str) -> list[int]:
        order = list(range(self.conversations))
        random.Random(f"{purpose} {self.seed}").shuffle(order)
        return order

    def _sources(self) -> list[SourceName]:
        experts = round(self.expert_share * self.conversations)
        middles = round(self.middle_share * self.conversations)
        order = self._order("sources")
        sources: list[SourceName] = ["weak"] * self.conversations
        for number in order[:experts]:
            sources[number] = "expert"
        # From the other end, so that a larger share of one leaves the other's conversations as they are.
        for number in order[len(order) - middles :]:
            sources[number] = "middle"
        return sources

    def _tags(self, sources: list[SourceName]) -> list[SourceName]:
        classes = [name for name in SOURCES if name != "middle" or self.middle_share > 0]
        others = {name: [other for other in classes if other != name] for name in classes}
        tags, rng = list(sources), random.Random(f"tags {self.seed}")
        for number in self._order("mislabelled")[: round(self.mislabelled * self.conversations)]:
            tags[number] = rng.choice(others[sources[number]])
        return tags


def world_hash() -> str:
    """SHA-256 over the test problems and the source of all rules: it changes if anything that could change a score
    does, so that a frozen world can be told from another."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    rules = [*package.glob("skills/*.py"), *(package / name for name in _RULES)]
    for path in sorted(rules):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for level, count in TEST_PROBLEMS.items():
        for problem in problems("test", level, count):
            digest.update(json.dumps(asdict(problem)).encode())
    return digest.hexdigest()


_RULES = ("draw.py", "problems.py", "scoring.py", "sources.py", "world.py")
