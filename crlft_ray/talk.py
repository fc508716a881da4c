"""`crlft chat`: talk to a model through its chat template, under its own condition or beside another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crlft_ray.device import to_device
from crlft_ray.errors import UserError, reason_of
from crlft_ray.export.provenance import read_provenance
from crlft_ray.model.find import model_folder


@dataclass
class _Voice:
    """One side of the talk: a condition, and what was said under it."""

    name: str
    condition: str | None
    messages: list[dict[str, str]] = field(default_factory=list)


class Chat:
    """A conversation with a model that remembers its turns; with another class beside, one for each."""

    def __init__(self, model: str, as_class: str | None = None, max_new_tokens: int = 200) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = model_folder(model)
        provenance = read_provenance(folder)
        self.voices = [_Voice(provenance.infer_as if provenance else "model", None)]
        if as_class is not None:
            if provenance is None:
                raise UserError(f"--as {as_class}: {model} was not trained with conditions; leave --as out")
            self.voices.append(_Voice(as_class, provenance.condition(as_class)))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        # As for a training: what a wrong value raises may be anything.
        except Exception as error:
            raise UserError(f"{model}: cannot be loaded: {reason_of(error)}") from None
        if not self._tokenizer.chat_template:
            raise UserError(f"{model}: has no chat template, so it cannot be talked to")
        to_device(self._model, model)
        self._max_new_tokens = max_new_tokens

    def reply(self, voice: _Voice, text: str, streamer: Any = None) -> str:
        """The model's greedy answer to `text` after all that was said before in that voice."""
        voice.messages.append({"role": "user", "content": text})
        condition = {} if voice.condition is None else {"condition": voice.condition}
        inputs = self._tokenizer.apply_chat_template(
            voice.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, **condition
        ).to(self._model.device)
        output = self._model.generate(
            **inputs, max_new_tokens=self._max_new_tokens, do_sample=False, repetition_penalty=1.1, streamer=streamer
        )
        answer = self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        voice.messages.append({"role": "assistant", "content": answer})
        return str(answer)

    def talk(self) -> None:
        """Reads lines until an empty one or end of file, and streams the replies."""
        from transformers import TextStreamer

        streamer = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        while True:
            try:
                text = input("you: ").strip()
            except EOFError:
                return
            if not text:
                return
            for voice in self.voices:
                print(f"{voice.name}: ", end="", flush=True)
                self.reply(voice, text, streamer)


def chat(
    model: str, *, message: str | None = None, as_class: str | None = None, max_new_tokens: int = 200
) -> dict[str, str] | None:
    """Answers `message`, or talks on the terminal.

    Args:
        model: whatever `model_folder` takes, also models:/NAME@ALIAS.
        message: a single message; None to talk.
        as_class: a class (or "none") whose condition is shown beside the model's own.
        max_new_tokens: longest reply.

    Returns:
        The replies to `message`, by class; "model" where there are no classes.

    Raises:
        UserError: the model cannot be loaded or talked to, or has no such class.
    """
    talk = Chat(model, as_class, max_new_tokens)
    if message is not None:
        return {voice.name: talk.reply(voice, message) for voice in talk.voices}
    talk.talk()
    return None
