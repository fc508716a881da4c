"""TRL's trainer on conversations that are tokens already; runs in the peers' environment.

python _trl.py MODEL CONVERSATIONS.json bfd|wrapped|padded bf16|fp32 STEPS GLOBAL_BATCH_TOKENS PACK_TOKENS
    [--checkpointing] [--memory]

Prints the tokens/s of each step but the first as JSON; with --memory the most resident memory in GB.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

THREADS = 2


def main() -> None:
    """Trains; padding does not count as tokens."""
    model, rows_file, kind, precision, steps, batch_tokens, pack_tokens, *flags = sys.argv[1:]
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(THREADS)
    rows = json.loads(Path(rows_file).read_text())
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    mean = sum(map(len, rows)) / len(rows)
    # Padded: four conversations at a time.
    each, tokens_each = (4, mean) if kind == "padded" else (1, int(pack_tokens))
    accumulated = round(int(batch_tokens) / (each * tokens_each))
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, max_steps=int(steps), learning_rate=1e-5,
        per_device_train_batch_size=each, gradient_accumulation_steps=accumulated, optim="adamw_torch_fused",
        max_length=int(pack_tokens), packing=kind != "padded", packing_strategy=kind if kind != "padded" else "bfd",
        gradient_checkpointing="--checkpointing" in flags,
        report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    seen, ends = [0], []

    class Timed(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append((time.perf_counter(), seen[0]))

    trainer = SFTTrainer(
        model=network,
        args=settings,
        train_dataset=datasets.Dataset.from_list([{"input_ids": row} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Timed()],
    )
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> Any:
        seen[0] += sum(len(example["input_ids"]) for example in examples)
        return collate(examples)

    trainer.data_collator = counted
    trainer.train()
    if "--memory" in flags:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
        return
    speeds = [(after - before) / (end - began) for (began, before), (end, after) in pairwise(ends)]
    print(json.dumps(speeds))


if __name__ == "__main__":
    main()
