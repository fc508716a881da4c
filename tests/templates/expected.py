"""Templates, tokenizers and conversations for the tests, and a second way to say what a rendered text must be."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from crlft_ray.config import CustomTemplate
from crlft_ray.conversations import Conversation, Turn
from tests.synthetic import write_byte_level_tokenizer

TEMPLATES: dict[str, str | CustomTemplate] = {
    "openchat": "openchat",
    "llama3": "llama3",
    "chatml": "chatml",
    "custom": CustomTemplate(role_prefix="### {condition} {Role}\n", end_of_turn="<|stop|>", after_turn="\n\n"),
}
CONDITIONS = ["GPT4", "", "Math Correct"]
END_OF_TURN = {"openchat": "<|end_of_turn|>", "llama3": "<|eot_id|>", "chatml": "<|im_end|>", "custom": "<|stop|>"}
CONTROL = [
    *END_OF_TURN.values(), "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<|endoftext|>", "<s>", "</s>",
    "<unk>",
]  # fmt: skip
_PARTS = [
    "Hello", " world", "5", " 42", "\n", "\n\n", "\t", "  ", " ", "!", "!!", "```py\nx = 1\n```",
    "é", "e\u0301", "\u0301",
    "ﬁ", "東京", "привет", "שלום", "🙂", "👩‍👩‍👧", "🇫🇷", "\u200b",
    "\u00a0", "\u2028", "\x00", "\ufeff", "\\n", "{{ x }}",
    "{% endgeneration %}", "GPT4 User: ", "Assistant:", "###", "▁", "'", '"', *CONTROL, "<|", "|>", "<", "< |im_end|>",
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    """Never empty, stripped."""
    text = "".join(rng.choices(_PARTS, k=rng.randint(1, 12))).strip()
    return text or "x"


def random_conversation(rng: random.Random) -> Conversation:
    """With or without system text; some answers are not to be learned."""
    turns = []
    for _ in range(rng.randint(1, 3)):
        turns.append(Turn("user", random_text(rng)))
        turns.append(Turn("assistant", random_text(rng), rng.choice([1.0, 1.0, 0.25, 0.0])))
    return Conversation("a", random_text(rng) if rng.random() < 0.5 else "", tuple(turns))


def _mistral(folder: Path, adds_bos: bool) -> None:
    import mistral_common

    (model,) = Path(mistral_common.__file__).parent.rglob("tokenizer.model.v1")
    shutil.copy(model, folder / "tokenizer.model")
    settings = {
        "tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": adds_bos, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


TOKENIZERS: dict[str, Callable[[Path], object]] = {
    "byte-level": write_byte_level_tokenizer,
    "byte-level, adds BOS": lambda folder: write_byte_level_tokenizer(folder, adds_bos=True),
    "SentencePiece": lambda folder: _mistral(folder, adds_bos=False),
    "SentencePiece, adds BOS": lambda folder: _mistral(folder, adds_bos=True),
}
BOS = {"byte-level, adds BOS": "<|endoftext|>", "SentencePiece, adds BOS": "<s>"}


def plain(text: str, control: list[str]) -> str:
    """A text in which no control token is spelled any more: a space after the first character of each."""
    while found := [token for token in control if token in text]:
        token = max(found, key=len)
        text = text.replace(token, f"{token[0]} {token[1:]}", 1)
    return text


def pieces(template: str, bos: str, condition: str, conversation: Conversation, control: list[str]) -> list[str]:
    """What is not learned and what is, in turns: [not, learned, not, learned, …, not]."""
    before = f"{condition} " if condition else ""
    prefix = {
        "openchat": "",
        "llama3": "<|start_header_id|>System<|end_header_id|>\n\n",
        "chatml": "<|im_start|>system\n",
        "custom": "### System\n",
    }
    around = {
        "openchat": (f"{before}User: ", f"{before}Assistant:", " "),
        "llama3": (
            f"<|start_header_id|>{before}User<|end_header_id|>\n\n",
            f"<|start_header_id|>{before}Assistant<|end_header_id|>\n\n",
            "",
        ),
        "chatml": (f"<|im_start|>{before}user\n", f"<|im_start|>{before}assistant\n", ""),
        "custom": (f"### {before}User\n", f"### {before}Assistant\n", ""),
    }
    system_prefix, (user_prefix, prompt, gap) = prefix[template], around[template]
    end = END_OF_TURN[template]
    after = {"chatml": "\n", "custom": "\n\n"}.get(template, "")
    texts = [bos + (system_prefix + plain(conversation.system, control) + end + after if conversation.system else "")]
    for turn in conversation.turns:
        text = plain(turn.content, control)
        if turn.role == "user":
            texts[-1] += user_prefix + text + end + after
        else:
            texts[-1] += prompt
            texts += [gap + text + end, after]
    return texts
