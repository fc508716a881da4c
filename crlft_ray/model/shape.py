"""What a model is, by its config: refuses those that our packed attention does not reproduce.

Loading weights is apart from it: the driver only looks, and what it imports for that it imports while Ray starts.
"""

from __future__ import annotations

from typing import Any

from crlft_ray.errors import UserError, reason_of

_SCALINGS = {
    "attn_logit_softcapping": "soft-capped attention",
    "final_logit_softcapping": "soft-capped logits",
    "logits_scaling": "scaled logits",
    "logit_scale": "scaled logits",
}
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
_SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)


def model_config(model: str, context: int | None = None, *, to_train: bool = True) -> Any:
    """The transformers config of a model that can be trained here, or at least be run.

    Raises:
        UserError: no config there, or the model's attention or output layer is not reproduced by ours (sliding
            windows shorter than the context, soft caps, sinks, scaled logits; where it is trained, dropout in
            attention).
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model)
    # A wrong value may raise anything: transformers' own exceptions for it are no ValueErrors.
    except Exception as error:
        raise UserError(f"model: {model} cannot be loaded: {reason_of(error)}") from None
    text_config = config.get_text_config()
    unlike = unlike_ours(config, context)
    if unlike:
        raise UserError(
            f"model: {model} ({config.model_type}) has {unlike}, which packed training does not reproduce; use a "
            "model with full causal attention"
        )
    dropout = next((key for key in _DROPOUTS if getattr(text_config, key, None)), None)
    if to_train and dropout is not None:
        raise UserError(
            f"model: {model} ({config.model_type}) has dropout in attention ({dropout}: "
            f"{getattr(text_config, dropout)}), which packed training does not reproduce; set {dropout} to 0 in the "
            "model's config.json"
        )
    positions = getattr(text_config, "max_position_embeddings", None)
    if context is not None and positions is not None and context > positions:
        raise UserError(f"data.context: {context} is more than the {positions} positions that {model} knows")
    return config


def model_shape(config: Any) -> dict[str, Any]:
    """What of a model's architecture must be the same for its weights to fit."""
    text_config = config.get_text_config()
    return {"model_type": config.model_type, **{key: getattr(text_config, key, None) for key in _SHAPE}}


def unlike_ours(config: Any, context: int | None) -> str | None:
    """What a model has that an attention function of ours would not reproduce in sequences of `context` tokens."""
    return _foreign(config) or _unlike(config.get_text_config(), context)


def _foreign(config: Any) -> str | None:
    """Why transformers would not run our attention in this model, if it would not."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return "an encoder"
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None:
        return "no causal language model"
    return None if model_class._supports_attention_backend else "attention code of its own"


def _unlike(config: Any, context: int | None) -> str | None:
    other = sorted(set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"})
    if other:
        return f"layers of another kind ({', '.join(other)})"
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True) and _only_layer_type(config) != "full_attention"
    if window and slides and (context is None or window < context):
        return f"sliding-window attention of {window} tokens"
    for key, name in _SCALINGS.items():
        if getattr(config, key, None) not in (None, 1, 1.0):
            return name
    if config.model_type in {"gpt_oss", "mimo_v2_flash"}:
        return "attention sinks"
    return None


def _only_layer_type(config: Any) -> str | None:
    types = set(getattr(config, "layer_types", None) or [])
    return types.pop() if len(types) == 1 else None
