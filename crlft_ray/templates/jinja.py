"""Writes the Jinja chat template: the one source of truth for training, evaluation and whoever loads the export."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from crlft_ray.errors import UserError
from crlft_ray.templates.spec import TemplateSpec

_SEPARATORS = " \u00b7\u2009\u200b"


def default_condition(condition: str) -> str:
    """The line that goes before `chat_template`: what `condition` is when the caller gives none."""
    return (
        f"{{%- if condition is not defined or condition is none -%}}{{%- set condition = {_literal(condition)} -%}}"
        "{%- endif -%}\n"
    )


def chat_template(spec: TemplateSpec, *, bos: str, control_tokens: Sequence[str], learned_gap: str = " ") -> str:
    """The chat template as Jinja source for `apply_chat_template`.

    It takes `condition`, wraps what is learned in `{% generation %}`, strips content, and
    breaks up text that spells a control token, so that no message can forge a turn. Only the first message may be a
    system text; an empty one is left out.

    Args:
        spec: the texts around messages.
        bos: text of the BOS token, empty for tokenizers that use none; written once, at the start.
        control_tokens: every token that must not come out of a message's content.
        learned_gap: which characters at the end of the assistant's role prefix are learned and not in the prompt.
    """
    plain = _plain_filters(control_tokens)
    guard = " or ".join(f"{_literal(first)} in text" for first in sorted({token[0] for token in control_tokens}))
    turn_end = _literal(spec.end_of_turn)
    after = f"{{{{- {_literal(spec.after_turn)} -}}}}" if spec.after_turn else ""
    lines = [
        f"{{%- set condition = condition | trim{plain} -%}}",
        f"{{%- set opening = {_prefix(spec, 'assistant')} -%}}",
        f"{{%- set prompt = opening.rstrip({_literal(learned_gap)}) -%}}",
        f"{{{{- {_literal(bos)} -}}}}" if bos else "",
        "{%- for message in messages -%}",
        "{%- if message['content'] is not string -%}{{- raise_exception('content must be text') -}}{%- endif -%}",
        "{%- set text = message['content'] | trim -%}",
        f"{{%- if {guard} -%}}{{%- set text = text{plain} -%}}{{%- endif -%}}",
        "{%- if message['role'] == 'system' and loop.first -%}",
        f"{{%- if text -%}}{{{{- {_literal(spec.system_prefix)} ~ text ~ {turn_end} -}}}}{after}{{%- endif -%}}",
        "{%- elif message['role'] == 'user' -%}",
        f"{{{{- {_prefix(spec, 'user')} ~ text ~ {turn_end} -}}}}{after}",
        "{%- elif message['role'] == 'assistant' -%}",
        "{{- prompt -}}",
        "{%- generation -%}",
        f"{{{{- opening[prompt | length:] ~ text ~ {turn_end} -}}}}",
        f"{{%- endgeneration -%}}{after}",
        "{%- else -%}",
        "{{- raise_exception(\"role '\" ~ message['role'] ~ \"' is not one of user, assistant, and system in the "
        'first message") -}}',
        "{%- endif -%}",
        "{%- endfor -%}",
        "{%- if add_generation_prompt -%}{{- prompt -}}{%- endif -%}",
    ]
    return "\n".join(line for line in lines if line)


def _literal(text: str) -> str:
    # JSON's escapes are a subset of those that Jinja's string literals know.
    return json.dumps(text, ensure_ascii=False)


def _prefix(spec: TemplateSpec, role: str) -> str:
    """A Jinja expression for the role prefix; an empty condition takes the space after it along."""
    parts = []
    text = spec.role_prefix.replace("{role}", role).replace("{Role}", role.title())
    for part in re.split(r"(\{condition\} ?)", text):
        if part.startswith("{condition}"):
            parts.append(f"(condition ~ {_literal(part[len('{condition}') :])} if condition else '')")
        elif part:
            parts.append(_literal(part))
    return " ~ ".join(parts)


def _plain_filters(tokens: Sequence[str]) -> str:
    """Filters that put a separator after the first character of every control token that a message spells.

    No token holds the separator, so nothing that is put in can become part of one.
    """
    separator = next((sign for sign in _SEPARATORS if not any(sign in token for token in tokens)), None)
    if separator is None:
        raise UserError(
            f"tokenizer: its control tokens hold each of {_SEPARATORS!r}; none can break up a token in a text"
        )
    filters = ""
    for token in sorted(set(tokens), key=lambda token: (-len(token), token)):
        broken_up = f"{token[0]}{separator}{token[1:]}" if len(token) > 1 else separator
        # One pass leaves overlapping occurrences of a token behind ("||" in "|||"), but fewer each time.
        passes = len(token) if _overlaps_itself(token) else 1
        filters += f" | replace({_literal(token)}, {_literal(broken_up)})" * passes
    return filters


def _overlaps_itself(token: str) -> bool:
    return any(token.startswith(token[-size:]) for size in range(1, len(token)))
