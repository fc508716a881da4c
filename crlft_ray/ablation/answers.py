"""Greedy answers of a trained model to the world's problems, and whether they are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crlft_ray.ablation.problems import Problem
from crlft_ray.ablation.scoring import exact_match, final_answer

_BATCH = 100
_LONGEST = 64
"""New tokens of a reply; the experts' are shorter."""


@dataclass(frozen=True)
class Answered:
    """A problem with the model's last reply."""

    problem: Problem
    reply: str
    right: bool

    @property
    def repeats_slip(self) -> bool:
        """Whether the final answer is the very one of the sub-optimal source, and it is wrong."""
        slip = self.problem.slip
        return slip != self.problem.answer and final_answer(self.reply, self.problem.answer) == slip


class Learner:
    """An export on CPU, asked in batches."""

    def __init__(self, export: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(export, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()

    def answer(self, problems: Sequence[Problem], condition: str | None = None) -> list[Answered]:
        """Answers each problem turn by turn, after the model's own earlier replies.

        Args:
            problems: whose last reply is scored.
            condition: text of the role prefixes; None for the export's default.
        """
        talks: list[list[dict[str, str]]] = [[] for _ in problems]
        for turn in range(max(len(problem.questions) for problem in problems)):
            now = [number for number, problem in enumerate(problems) if turn < len(problem.questions)]
            for number in now:
                talks[number].append({"role": "user", "content": problems[number].questions[turn]})
            # Of one length, nearly: padding would be answered, too.
            now.sort(key=lambda number: sum(len(message["content"]) for message in talks[number]))
            for first in range(0, len(now), _BATCH):
                batch = now[first : first + _BATCH]
                replies = self._replies([talks[number] for number in batch], condition)
                for number, reply in zip(batch, replies, strict=True):
                    talks[number].append({"role": "assistant", "content": reply})
        last = [talk[-1]["content"] for talk in talks]
        return [Answered(p, reply, exact_match(reply, p)) for p, reply in zip(problems, last, strict=True)]

    def _replies(self, talks: Sequence[list[dict[str, str]]], condition: str | None) -> list[str]:
        named: dict[str, Any] = {} if condition is None else {"condition": condition}
        inputs = self._tokenizer.apply_chat_template(
            talks, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True, **named
        )
        output = self._model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        return [str(text).strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]


def write_answers(answers: Sequence[Answered], path: Path) -> None:
    """One line a problem, so that any verdict can be read."""
    lines = [
        json.dumps(
            {
                "questions": answered.problem.questions,
                "answer": answered.problem.answer,
                "slip": answered.problem.slip,
                "reply": answered.reply,
                "right": answered.right,
                "skill": answered.problem.skill,
                "level": answered.problem.level,
            }
        )
        for answered in answers
    ]
    part = path.with_name(f"{path.name}.part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(path)


def read_answers(path: Path, asked: Sequence[Problem]) -> list[Answered]:
    """What was answered to `asked`, in their order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [tuple(row["questions"]) for row in rows] == [problem.questions for problem in asked]
    return [Answered(problem, row["reply"], row["right"]) for problem, row in zip(asked, rows, strict=True)]
