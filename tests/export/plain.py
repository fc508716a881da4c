"""What somebody does who has an export and plain transformers; prints one JSON object."""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, question = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
chat = [{"role": "user", "content": "0-0 the house"}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**prompt, max_new_tokens=40)[0, prompt["input_ids"].shape[1] :]
print(
    json.dumps(
        {
            "ids": [
                tokenizer.apply_chat_template(messages, condition=condition, return_dict=False)
                for messages, condition in question
            ],
            "default": tokenizer.apply_chat_template(question[0][0], return_dict=False),
            "reply": tokenizer.decode(reply, skip_special_tokens=True),
            "reply_tokens": len(reply),
            "last": int(reply[-1]),
            "eos": [model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id],
            "tied": model.lm_head.weight is model.model.embed_tokens.weight,
            "rows": model.get_input_embeddings().num_embeddings,
            "attention": model.config._attn_implementation,
            "ours": [name for name in sys.modules if name.startswith(("crlft", "deepspeed", "ray"))],
        }
    )
)
