"""TRL's trainer on conversations that are tokens already; runs in the peers' environment.

Prints the tokens/s of each step but the first as JSON; with --memory the most resident memory in GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

THREADS = 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("conversations", type=Path, help="a JSON list of lists of ids")
    parser.add_argument("kind", choices=["bfd", "wrapped", "padded"])
    parser.add_argument("precision", choices=["bf16", "fp32", "autocast"], help="autocast: fp32 weights, bf16 products")
    parser.add_argument("steps", type=int)
    parser.add_argument("batch_tokens", type=int, help="of an optimizer step")
    parser.add_argument("pack_tokens", type=int)
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--each", type=int, help="packs or conversations of a micro-batch, by default 1 or 4")
    parser.add_argument("--grouped", action="store_true", help="conversations of about one length together")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--memory", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Trains; padding does not count as tokens."""
    arguments = _arguments()
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(THREADS)
    rows = json.loads(arguments.conversations.read_text())
    packed = arguments.kind != "padded"
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    network = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=dtype, attn_implementation=arguments.attention
    )
    each = arguments.each or (1 if packed else 4)
    tokens_each = arguments.pack_tokens if packed else sum(map(len, rows)) / len(rows)
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=arguments.precision == "autocast",
        max_steps=arguments.steps, learning_rate=1e-5, per_device_train_batch_size=each,
        gradient_accumulation_steps=max(1, round(arguments.batch_tokens / (each * tokens_each))),
        optim="adamw_torch_fused", max_length=arguments.pack_tokens, packing=packed,
        packing_strategy=arguments.kind if packed else "bfd", gradient_checkpointing=arguments.checkpointing,
        train_sampling_strategy="group_by_length" if arguments.grouped else "random",
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
        processing_class=AutoTokenizer.from_pretrained(arguments.model),
        callbacks=[Timed()],
    )
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> Any:
        seen[0] += sum(len(example["input_ids"]) for example in examples)
        return collate(examples)

    trainer.data_collator = counted
    trainer.train()
    if arguments.memory:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
        return
    speeds = [(after - before) / (end - began) for (began, before), (end, after) in pairwise(ends)]
    print(json.dumps(speeds))


if __name__ == "__main__":
    main()
