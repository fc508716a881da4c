"""`crlft chat`: talk to a model through its chat template."""

from __future__ import annotations

from typing import Any

from crlft_ray.assets import asset_path
from crlft_ray.errors import UserError


class Chat:
    """A conversation with a model that remembers its turns."""

    def __init__(self, model: str, condition: str | None = None, max_new_tokens: int = 200) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        path = str(asset_path(model) or model)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            self._model = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None
        if not self._tokenizer.chat_template:
            raise UserError(f"{model}: has no chat template, so it cannot be talked to")
        self._arguments = {} if condition is None else {"condition": condition}
        self._max_new_tokens = max_new_tokens
        self._messages: list[dict[str, str]] = []

    def reply(self, text: str, streamer: Any = None) -> str:
        """The model's greedy answer to `text` after all that was said before."""
        self._messages.append({"role": "user", "content": text})
        inputs = self._tokenizer.apply_chat_template(
            self._messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, **self._arguments
        )
        output = self._model.generate(
            **inputs, max_new_tokens=self._max_new_tokens, do_sample=False, repetition_penalty=1.1, streamer=streamer
        )
        answer = self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        self._messages.append({"role": "assistant", "content": answer})
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
            self.reply(text, streamer)


def chat(
    model: str, *, message: str | None = None, condition: str | None = None, max_new_tokens: int = 200
) -> str | None:
    """Answers `message`, or talks on the terminal.

    Args:
        model: folder, hub id or fetched name.
        message: a single message; None to talk.
        condition: text in the role prefixes; None for the model's default.
        max_new_tokens: longest reply.

    Returns:
        The reply to `message`.
    """
    talk = Chat(model, condition, max_new_tokens)
    if message is not None:
        return talk.reply(message)
    talk.talk()
    return None
