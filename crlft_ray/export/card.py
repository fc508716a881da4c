"""The model card of an export."""

from __future__ import annotations

from pathlib import PurePath

from crlft_ray.config import Config
from crlft_ray.shards.manifest import Manifest


def model_card(config: Config, manifest: Manifest, steps: int) -> str:
    """README.md of an exported model: what it is, what it learned from, how to use it."""
    # A local base model is named by its last part: the card may be read far from this machine.
    base = PurePath(config.model).name if config.model.startswith(("/", ".")) else config.model
    weights = dict(zip(config.class_names, config.class_weights(), strict=True))
    rows = "\n".join(
        f"| {c.name}{' (default)' if c.name == config.infer_as else ''} | {c.condition or '–'} | "
        f"{weights[c.name]:g} | {c.conversations:,} | {c.learned_tokens:,} |"
        for c in manifest.classes
    )
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [c-rlft]
---
# {base}, fine-tuned with C-RLFT

Learned from conversations of mixed quality with C-RLFT (OpenChat, arXiv 2309.11235): the source of a conversation is
its reward, a weight on the loss, and its condition, a text in the role prefixes. The chat template uses the condition
of the class `{config.infer_as}` unless `apply_chat_template` is called with another `condition`.

| class | condition | weight | conversations | learned tokens |
|---|---|---|---|---|
{rows}

{steps:,} optimizer steps of {config.train.global_batch_tokens:,} tokens. Data fingerprint: `{manifest.fingerprint}`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
chat = [{{"role": "user", "content": "Hello!"}}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```
"""
