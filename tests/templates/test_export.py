"""Training ids are those of the export's `apply_chat_template`, in a new process without this package."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from crlft_ray.assets import fetch
from crlft_ray.templates import ChatTokenizer, encode, load_chat_tokenizer
from tests.templates.expected import CONDITIONS, TEMPLATES, TOKENIZERS, random_conversation

pytestmark = pytest.mark.slow

COMBINATIONS = [(tokenizer, template) for tokenizer in [*TOKENIZERS, "smollm2-135m"] for template in TEMPLATES]
CONVERSATIONS = [random_conversation(random.Random(seed)) for seed in range(60)]

OTHER_PROCESS = """
import json, sys
from transformers import AutoTokenizer

results = {}
for name, (folder, chats) in json.load(open(sys.argv[1])).items():
    tokenizer = AutoTokenizer.from_pretrained(folder)
    results[name] = []
    for chat, condition in chats:
        given = {} if condition is None else {"condition": condition}
        text = tokenizer.apply_chat_template(chat, tokenize=False, **given)
        results[name].append({
            "ids": tokenizer.apply_chat_template(chat, return_dict=False, **given),
            "ids_of_text": tokenizer(text).input_ids,
            "prompt": tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=False, **given),
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token,
        })
assert not any(name.startswith("crlft") for name in sys.modules)
json.dump(results, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    """By "tokenizer/template"."""
    made = {}
    for name, template in COMBINATIONS:
        if name in TOKENIZERS:
            folder = tmp_path_factory.mktemp("model")
            TOKENIZERS[name](folder)
        else:
            (folder,) = fetch([name]).values()
        made[f"{name}/{template}"] = load_chat_tokenizer(str(folder), TEMPLATES[template], "GPT4")
    return made


@pytest.fixture(scope="module")
def elsewhere(
    tokenizers: dict[str, ChatTokenizer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """What plain transformers makes of all conversations: for every condition, and with none given at the end."""
    work = tmp_path_factory.mktemp("elsewhere")
    jobs = {}
    for number, (name, tokenizer) in enumerate(tokenizers.items()):
        folder = work / str(number)
        folder.mkdir()
        tokenizer.save(folder)
        # An export has the model's config beside the tokenizer, and transformers looks at it.
        model_type = "mistral" if name.startswith("Sentence") else "llama"
        (folder / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": tokenizer.vocab_size}))
        chats = [(c.messages(), CONDITIONS[i % len(CONDITIONS)]) for i, c in enumerate(CONVERSATIONS)]
        jobs[name] = (str(folder), [*chats, (CONVERSATIONS[0].messages(), None)])
    (work / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-I", "-c", OTHER_PROCESS, str(work / "jobs.json"), str(work / "results.json")]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results: dict[str, list[dict[str, Any]]] = json.loads((work / "results.json").read_text())
    return results


@pytest.mark.parametrize("name", [f"{tokenizer}/{template}" for tokenizer, template in COMBINATIONS])
def test_training_sees_what_inference_sees(
    name: str, tokenizers: dict[str, ChatTokenizer], elsewhere: dict[str, list[dict[str, Any]]]
) -> None:
    tokenizer, results = tokenizers[name], elsewhere[name]
    conditions = [CONDITIONS[i % len(CONDITIONS)] for i in range(len(CONVERSATIONS))]
    # The last one was rendered without a condition: the default is that of the class to infer as.
    encoded = encode(tokenizer, [*CONVERSATIONS, CONVERSATIONS[0]], [*conditions, "GPT4"])
    assert len(results) == len(encoded) == len(CONVERSATIONS) + 1
    for mine, other in zip(encoded, results, strict=True):
        ids = mine.input_ids_T.tolist()
        assert ids == other["ids"]
        assert ids == other["ids_of_text"], "tokenising the rendered text with special tokens added gives the same"
        assert other["eos"] == tokenizer.special["eos_token"]
        if "adds BOS" in name:
            assert ids[0] == other["bos"]
            assert ids.count(other["bos"]) == 1
        elif not name.startswith("smollm2"):  # whose BOS is <|im_start|>
            assert other["bos"] not in ids
    for mine, other, conversation in zip(encoded, results, [*CONVERSATIONS, CONVERSATIONS[0]], strict=True):
        if conversation.turns[-1].weight:
            start = mine.spans[-1][0]
            assert mine.input_ids_T[:start].tolist() == other["prompt"]


def test_the_published_ids(tokenizers: dict[str, ChatTokenizer]) -> None:
    """Those of the original code for Mistral's tokenizer."""
    ids = [420, 6316, 28781, 1247, 28747, 22557, 32000, 420, 6316, 28781, 21631, 28747]
    chat = [{"role": "user", "content": "Hello"}]
    for name, expected in (("SentencePiece", ids), ("SentencePiece, adds BOS", [1, *ids])):
        tokenizer = tokenizers[f"{name}/openchat"].transformers()
        assert tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) == expected
