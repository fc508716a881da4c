"""What a chat template consists of: role prefixes with a condition, and an end of turn."""

from __future__ import annotations

from dataclasses import dataclass

from crlft_ray.config.classes import CustomTemplate


@dataclass(frozen=True)
class TemplateSpec:
    """The texts around a message. `role_prefix` holds {condition} and {role} (lower case) or {Role} (capitalised)."""

    role_prefix: str
    end_of_turn: str
    system_prefix: str
    """Text before the system text, which is followed by the end of turn like any message."""
    after_turn: str = ""
    control_tokens: tuple[str, ...] = ()
    """Tokens of the prefixes that the tokenizer must have; they are added where missing, like the end of turn."""


NAMED = {
    # OpenChat v3.2 and 3.5: the same template, other conditions.
    "openchat": TemplateSpec("{condition} {Role}: ", "<|end_of_turn|>", system_prefix=""),
    # OpenChat 3.6, on Llama 3's headers.
    "llama3": TemplateSpec(
        "<|start_header_id|>{condition} {Role}<|end_header_id|>\n\n",
        "<|eot_id|>",
        system_prefix="<|start_header_id|>System<|end_header_id|>\n\n",
        control_tokens=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "chatml": TemplateSpec(
        "<|im_start|>{condition} {role}\n",
        "<|im_end|>",
        system_prefix="<|im_start|>system\n",
        after_turn="\n",
        control_tokens=("<|im_start|>",),
    ),
}


def template_spec(template: str | CustomTemplate) -> TemplateSpec:
    """The texts of a named template, or of one the user wrote in the config."""
    if isinstance(template, str):
        return NAMED[template]
    system = template.role_prefix.replace("{condition} ", "").replace("{condition}", "")
    return TemplateSpec(
        role_prefix=template.role_prefix,
        end_of_turn=template.end_of_turn,
        system_prefix=system.replace("{role}", "system").replace("{Role}", "System"),
        after_turn=template.after_turn,
    )
