"""Loads a model's tokenizer and fixes it to the form that training, evaluation and export share."""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from crlft_ray.config.classes import CustomTemplate
from crlft_ray.errors import UserError, reason_of
from crlft_ray.templates.jinja import chat_template, default_condition
from crlft_ray.templates.spec import TemplateSpec, template_spec


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer and its chat template as plain data: cheap to send to tasks, the same bytes everywhere.

    The tokenizer never adds tokens of its own: the template writes BOS for models that use one, so there is exactly
    one however the rendered text is tokenised.
    """

    backend_json: str = field(repr=False)
    """The `tokenizers` library's serialisation."""
    special: dict[str, str]
    """bos_token, eos_token, pad_token, unk_token, where there are any; eos is the end of turn."""
    template_body: str = field(repr=False)
    """Jinja source that needs a `condition`."""
    condition: str
    """What the template's condition is when the caller gives none."""
    model_max_length: int
    new_tokens: tuple[str, ...]
    """Tokens that the model does not know yet; their ids follow the original vocabulary."""
    vocab_size: int
    """Ids are below this."""

    @property
    def digest(self) -> str:
        """SHA-256 over everything that decides the ids of a conversation under a given condition."""
        content = [self.backend_json, sorted(self.special.items()), self.template_body, self.new_tokens]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def template(self) -> str:
        """The chat template with its default condition, as it is exported."""
        return default_condition(self.condition) + self.template_body

    @property
    def backend(self) -> Any:
        """The `tokenizers.Tokenizer`."""
        return _backend(self.backend_json)

    def transformers(self) -> Any:
        """The same as a transformers tokenizer, for `apply_chat_template`, `decode` and `save_pretrained`."""
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=self.backend,
            chat_template=self.template,
            model_max_length=self.model_max_length,
            clean_up_tokenization_spaces=False,
            add_bos_token=False,
            add_eos_token=False,
            **self.special,
        )
        return tokenizer

    def token_id(self, token: str) -> int:
        """Id of one token's text; it must exist."""
        found = self.backend.token_to_id(token)
        assert found is not None, token
        return int(found)

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ChatTokenizer:
        """Back from `to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "new_tokens": tuple(fields["new_tokens"])})

    def save(self, folder: Path) -> None:
        """Writes the tokenizer and its template, for `AutoTokenizer.from_pretrained`."""
        self.transformers().save_pretrained(folder)
        # The generic class reads tokenizer.json as it is, in every release of transformers; a model's own class may
        # rebuild parts of the pipeline and give other ids.
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_chat_tokenizer(model: str, template: str | CustomTemplate, condition: str) -> ChatTokenizer:
    """Loads the tokenizer of `model` (folder or hub id) and gives it `template` with a default `condition`.

    Raises:
        UserError: there is no tokenizer, it is none of the fast ones (character offsets are needed to find what is
            learned), or it adds tokens other than BOS.
    """
    tokenizer = _load(model)
    uses_bos = _uses_bos(tokenizer, model)
    spec = template_spec(template)
    known = set(tokenizer.get_vocab())
    needed = [*spec.control_tokens, spec.end_of_turn]
    new_tokens = tuple(token for token in dict.fromkeys(needed) if token not in known)
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in needed], special_tokens=True)
    control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    control |= {token for token in (*tokenizer.all_special_tokens, *needed) if token}
    bos = tokenizer.bos_token if uses_bos else ""
    special = {
        name: str(value)
        for name in ("bos_token", "unk_token", "pad_token")
        if (value := getattr(tokenizer, name, None)) is not None
    }
    special["eos_token"] = spec.end_of_turn
    special.setdefault("pad_token", str(tokenizer.eos_token or spec.end_of_turn))
    backend_json = _exact(tokenizer.backend_tokenizer.to_str())
    gap = _learned_gap(_backend(backend_json), spec)
    return ChatTokenizer(
        backend_json=backend_json,
        special=special,
        template_body=chat_template(spec, bos=bos, control_tokens=sorted(control), learned_gap=gap),
        condition=condition,
        model_max_length=int(min(tokenizer.model_max_length, 2**31 - 1)),
        new_tokens=new_tokens,
        vocab_size=len(tokenizer),
    )


@lru_cache(maxsize=4)
def _backend(backend_json: str) -> Any:
    # Kept by content: tasks of one process get a fresh copy of the text each time, but need only one tokenizer.
    from tokenizers import Tokenizer

    return Tokenizer.from_str(backend_json)


def _load(model: str) -> Any:
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
    folder = Path(model)
    if folder.is_dir() and not any((folder / name).exists() for name in files):
        raise UserError(f"model: {model} holds no tokenizer; copy tokenizer.json and tokenizer_config.json into it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    # Of many kinds, some of them plain Exceptions: it reads the model's config, too, and calls the tokenizers library.
    except Exception as error:
        raise UserError(f"model: the tokenizer of {model} cannot be loaded: {reason_of(error)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"model: {model} has no fast tokenizer (tokenizer.json); convert it with transformers first")
    return tokenizer


def _uses_bos(tokenizer: Any, model: str) -> bool:
    plain = tokenizer("a", add_special_tokens=False).input_ids
    added = tokenizer("a").input_ids
    if added == plain:
        return False
    if tokenizer.bos_token_id is not None and added == [tokenizer.bos_token_id, *plain]:
        return True
    # An EOS at the end is left to the template's end of turn.
    if tokenizer.eos_token_id is not None and added[-1] == tokenizer.eos_token_id:
        return bool(added[0] == tokenizer.bos_token_id != plain[0])
    raise UserError(f"model: the tokenizer of {model} adds tokens other than BOS and EOS ({plain} becomes {added})")


def _learned_gap(backend: Any, spec: TemplateSpec) -> str:
    """The characters at the end of a role prefix that become other tokens when text follows.

    A space is one token with the word after it; "\\n\\n" is one token at the end of a prompt and two before a text in
    tokenizers that split as GPT-2's does. A prompt that ends before them has the ids that training saw.
    """

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    opening = (
        spec.role_prefix.replace("{condition}", "GPT4").replace("{role}", "assistant").replace("{Role}", "Assistant")
    )
    for gap in (" ", string.whitespace):
        prompt = ids(opening.rstrip(gap))
        if all(ids(opening + text)[: len(prompt)] == prompt for text in ("Hello", "5", "!", "<b>", "é", "東", "🙂")):
            return gap
    # A prefix that ends in a letter or sign may always become one token with what follows.
    return " "


def _exact(backend_json: str) -> str:
    """The tokenizer without anything that adds, cuts or rewrites: special tokens are found by their very text."""
    backend = json.loads(backend_json)
    backend["post_processor"] = None
    # Padding and truncation are settings of a call, not of the tokenizer.
    backend["padding"] = backend["truncation"] = None
    for token in backend["added_tokens"]:
        # Otherwise a text that a normaliser turns into the token's would become one.
        token["normalized"] = token["normalized"] and not token["special"]
    return json.dumps(backend, ensure_ascii=False)
