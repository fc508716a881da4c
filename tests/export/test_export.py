"""The exported folder is all that somebody with plain transformers needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from crlft_ray.conversations import Conversation
from crlft_ray.evaluation.heldout import read_heldout
from crlft_ray.shards.manifest import read_tokenizer
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.shards.shard import pack_of
from crlft_ray.shards.stream import PackReader
from crlft_ray.templates import encode
from tests.runs import REPLIES, FinishedRun

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def conversations(finished: FinishedRun) -> list[Conversation]:
    return read_heldout(shards_folder(finished.config), None)


@pytest.fixture(scope="module")
def seen(finished: FinishedRun, conversations: list[Conversation], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a new process without this package finds in the export."""
    questions = [(c.messages(), finished.config.condition(c.class_name)) for c in conversations]
    program = Path(__file__).with_name("plain.py").read_text()
    result = subprocess.run(
        [sys.executable, "-c", program, finished.trained.export, json.dumps(questions)],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path_factory.mktemp("elsewhere"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_it_loads_without_this_package(seen: Any) -> None:
    assert seen["ours"] == []
    assert seen["attention"] == "sdpa"


def test_the_chat_template_gives_the_training_ids(
    seen: Any, finished: FinishedRun, conversations: list[Conversation]
) -> None:
    tokenizer = read_tokenizer(shards_folder(finished.config))
    conditions = [finished.config.condition(c.class_name) for c in conversations]
    trained_on = encode(tokenizer, conversations, conditions)
    assert {c.class_name for c in conversations} == {"expert", "mixed"}
    assert seen["ids"] == [each.input_ids_T.tolist() for each in trained_on]
    as_expert = encode(tokenizer, conversations[:1], ["GPT4"])[0]
    assert seen["default"] == as_expert.input_ids_T.tolist()


def test_shards_hold_what_the_template_gives(finished: FinishedRun) -> None:
    """So that the ids above are those that were trained on: decoded from a shard and rendered again."""
    folder = shards_folder(finished.config)
    pack = pack_of(PackReader(folder, finished.manifest)(0))
    text = read_tokenizer(folder).backend.decode(
        pack.input_ids_T[: pack.lengths_C[0]].tolist(), skip_special_tokens=False
    )
    condition = finished.config.condition(finished.config.class_names[int(pack.classes_C[0])])
    assert f"{condition} User: " in text
    assert (
        f"{condition} Assistant: {REPLIES[finished.config.class_names[int(pack.classes_C[0])]]}<|end_of_turn|>" in text
    )


def test_it_answers_until_the_end_of_turn(seen: Any, finished: FinishedRun) -> None:
    end_of_turn = read_tokenizer(shards_folder(finished.config)).token_id("<|end_of_turn|>")
    assert seen["eos"] == [end_of_turn] * 3
    assert seen["rows"] == end_of_turn + 1, "the end of turn is the one token that was added"
    assert seen["reply"]
    assert seen["last"] == end_of_turn or seen["reply_tokens"] == 40


def test_tied_weights_are_stored_once(seen: Any, finished: FinishedRun) -> None:
    assert seen["tied"]
    with safe_open(f"{finished.trained.export}/model.safetensors", "np") as weights:
        names = set(weights.keys())
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    assert len(names) == 2 * 9 + 2


def test_the_export_can_be_read_by_others(finished: FinishedRun) -> None:
    folder = Path(finished.trained.export)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_the_model_card_says_what_it_learned_from(finished: FinishedRun) -> None:
    card = (Path(finished.trained.export) / "README.md").read_text()
    expert = finished.manifest.classes[0]
    assert f"| expert (default) | GPT4 | 1 | {expert.conversations} | {expert.learned_tokens:,} |" in card
    assert "| mixed | GPT3 | 0.1 |" in card
    assert finished.manifest.fingerprint in card
    assert f"{finished.trained.steps} optimizer steps" in card
    assert str(finished.output) not in card, "a machine's path says nothing elsewhere"


def test_the_weights_are_those_of_the_last_checkpoint(finished: FinishedRun) -> None:
    """The masters that ZeRO-3 keeps in fp32, gathered from both ranks' files, rounded to bf16."""
    import torch
    from safetensors.torch import load_file

    newest = sorted((finished.output / "checkpoints").glob("checkpoint_*/"))[-1]
    files = sorted(newest.glob("zero3/*optim_states.pt"))
    masters = [torch.load(file, weights_only=False)["optimizer_state_dict"]["fp32_flat_groups"] for file in files]
    values = np.concatenate([part.detach().bfloat16().float().numpy().ravel() for rank in masters for part in rank])
    exported = load_file(f"{finished.trained.export}/model.safetensors")
    of_export = np.concatenate([value.float().numpy().ravel() for value in exported.values()])
    # Partitions are padded with zeros, and their order is another one.
    assert np.array_equal(np.sort(values[values != 0]), np.sort(of_export[of_export != 0]))
