"""Writes the Jinja chat template: the one source of truth for training, evaluation and whoever loads the export."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from crlft_ray.errors import UserError
from crlft_ray.templates.spec import TemplateSpec


def default_condition(condition: str) -> str:
    """The line that goes before `chat_template`: what `condition` is when the caller gives none."""
    return (
        f"{{%- if condition is not defined or condition is none -%}}{{%- set condition = {_literal(condition)} -%}}"
        "{%- endif -%}\n"
    )


def chat_template(spec: TemplateSpec, *, bos: str, control_tokens: Sequence[str]) -> str:
    """The chat template as Jinja source for `apply_chat_template`.

    It takes `condition`, wraps what is learned in `{% generation %}`, strips content, and
    breaks up text that spells a control token, so that no message can forge a turn. Only the first message may be a
    system text; an empty one is left out.

    Args:
        spec: the texts around messages.
        bos: text of the BOS token, empty for tokenizers that use none; written once, at the start.
        control_tokens: every token that must not come out of a message's content.
    """
    plain = _plain_filters(control_tokens)
    guard = " or ".join(f"{_literal(first)} in text" for first in sorted({token[0] for token in control_tokens}))
    turn_end = _literal(spec.end_of_turn)
    after = f"{{{{- {_literal(spec.after_turn)} -}}}}" if spec.after_turn else ""
    return "\n".join(
        [
            f"{{%- set condition = condition | trim{plain} -%}}",
            f"{{{{- {_literal(bos)} -}}}}" if bos else "",
            "{%- for message in messages -%}",
            "{%- set text = message['content'] | trim -%}",
            f"{{%- if {guard} -%}}{{%- set text = text{plain} -%}}{{%- endif -%}}",
            "{%- if message['role'] == 'system' and loop.first -%}",
            f"{{%- if text -%}}{{{{- {_literal(spec.system_prefix)} ~ text ~ {turn_end} -}}}}{after}{{%- endif -%}}",
            "{%- elif message['role'] == 'user' -%}",
            f"{{{{- {_prefix(spec, 'user')} ~ text ~ {turn_end} -}}}}{after}",
            "{%- elif message['role'] == 'assistant' -%}",
            f"{{{{- {_prefix(spec, 'assistant')} -}}}}",
            f"{{%- generation -%}}{{{{- text ~ {turn_end} -}}}}{{%- endgeneration -%}}{after}",
            "{%- else -%}",
            "{{- raise_exception(\"role '\" ~ message['role'] ~ \"' is not one of user, assistant, and system in the "
            'first message") -}}',
            "{%- endif -%}",
            "{%- endfor -%}",
            f"{{%- if add_generation_prompt -%}}{{{{- ({_prefix(spec, 'assistant')}).rstrip(' ') -}}}}{{%- endif -%}}",
        ]
    ).replace("\n\n", "\n")


def broken_up(token: str) -> str:
    """How a control token that a message spells is written instead: a space after its first character."""
    return f"{token[0]} {token[1:]}" if len(token) > 1 else ""


def _literal(text: str) -> str:
    # JSON's escapes are a subset of those that Jinja's string literals know.
    return json.dumps(text, ensure_ascii=False)


def _prefix(spec: TemplateSpec, role: str) -> str:
    """A Jinja expression for the role prefix; an empty condition takes the space after it along."""
    parts = []
    for part in re.split(r"(\{condition\} ?)", spec.role_prefix.replace("{role}", role).replace("{Role}", role.title())):
        if part.startswith("{condition}"):
            parts.append(f"(condition ~ {_literal(part[len('{condition}') :])} if condition else '')")
        elif part:
            parts.append(_literal(part))
    return " ~ ".join(parts)


def _plain_filters(tokens: Sequence[str]) -> str:
    # Longer tokens first, so that one inside another is not broken up twice.
    ordered = sorted(set(tokens), key=lambda token: (-len(token), token))
    for token in ordered:
        inside = [other for other in ordered if other in broken_up(token)]
        if inside:
            raise UserError(f"tokenizer: the control token {token!r}, broken up, still spells {inside[0]!r}")
    once = "".join(f" | replace({_literal(token)}, {_literal(broken_up(token))})" for token in ordered)
    # A token that can overlap itself survives one pass of replacement ("||" in "|||"), but not two.
    return once * 2 if any(_overlaps_itself(token) for token in ordered) else once


def _overlaps_itself(token: str) -> bool:
    return any(token.startswith(token[-size:]) for size in range(1, len(token)))
