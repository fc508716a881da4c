"""A run whose model is better than its base on questions that it has learned the answer to."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.runs import REPLIES, FinishedRun, finish_run, run_config, write_learnable
from tests.synthetic import sentence

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: questions.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: right
doc_to_choice: options
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def write_suite(folder: Path, *, right: str = "learned", count: int = 120) -> Path:
    """Which of two replies of the same words comes next; the right one is what the model learned, or the other."""
    rng = random.Random(11)
    folder.mkdir(parents=True)
    (folder / "replies.yaml").write_text(TASK.format(name=folder.name))
    rows = []
    for number in range(count):
        words = REPLIES["expert"].split(" ")
        rng.shuffle(words)
        # The space that the chat template has before an answer.
        options = [f" {REPLIES['expert']}", f" {' '.join(words)}"]
        place = int(right != "learned")
        if number % 2:
            options, place = options[::-1], 1 - place
        rows.append({"question": f"{number} {sentence(rng, longest=8)}", "options": options, "right": place})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def learned_run(folder: Path, model: Path, suite: Path, /, **sections: Any) -> FinishedRun:
    """A run whose gate is `suite`; Ray must be connected."""
    source = write_learnable(folder / "conversations.jsonl")
    sections["train"] = {"workers": 1, **sections.get("train", {})}
    return finish_run(folder, run_config(model, folder / "run", source, register={"suite": str(suite)}, **sections))


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suites") / "replies")


@pytest.fixture(scope="session")
def other_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model learned is wrong in it."""
    return write_suite(tmp_path_factory.mktemp("suites") / "shuffled", right="shuffled")


@pytest.fixture(scope="session")
def run(ray_session: None, tiny_model: Path, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Of its own, because registering adds to a run."""
    return learned_run(tmp_path_factory.mktemp("registering"), tiny_model, suite)
