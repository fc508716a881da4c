"""Configs and inputs that cannot work, refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import crlft
from tests.runs import write_config
from tests.synthetic import raw_config, write_conversations

Case = tuple[list[str], list[str]]

CONFIGS: dict[str, Case] = {
    "an unknown format": (["data.sources.0.format=alpaca"], ["data.sources.0.format", "'openchat'", "'sharegpt'"]),
    "a class that no source has": (["classes.third.condition=GPT2"], ["classes.third", "no source gives this class"]),
    "a source of an unknown class": (["data.sources.0.class=best"], ["data.sources.0.class", "expert, mixed"]),
    "weights that are all 0": (
        ["classes.expert.weight=0", "classes.mixed.weight=0"],
        ["classes: all weights are 0", "give one class a weight above 0"],
    ),
    "a negative weight": (["classes.mixed.weight=-1"], ["classes.mixed.weight", "greater than or equal to 0"]),
    "a weight that is no number": (["classes.mixed.weight=.nan"], ["classes.mixed.weight", "finite"]),
    "a context larger than a pack": (["data.context=1024"], ["data.context: 1024", "data.pack_tokens = 512"]),
    "a batch of no whole number of packs": (
        ["train.global_batch_tokens=1000"],
        ["train.global_batch_tokens: 1000", "data.pack_tokens = 512"],
    ),
    "a wrong type": (["train.workers=two"], ["train.workers", "integer", "'two'"]),
    "an unknown key": (["train.wrokers=2"], ["train.wrokers: unknown key"]),
    "a malformed override": (["train.workers"], ["--set train.workers", "train.workers=4"]),
    "an offload that is no section": (
        ["train.deepspeed.zero_optimization.offload_optimizer=cpu"],
        ["train.deepspeed.zero_optimization.offload_optimizer: must be a section", "device: cpu (is 'cpu')"],
    ),
    "no ZeRO at all": (
        ["train.deepspeed.zero_optimization=null"],
        ["train.deepspeed.zero_optimization: must be a section with keys (is None)"],
    ),
    "two mistakes": (["train.workers=0", "template=vicuna"], ["2 thing(s)", "train.workers", "template"]),
}


def _refused(tmp_path: Path, raw: dict[str, Any], overrides: list[str], parts: list[str], command: str) -> None:
    file = write_config(tmp_path / "config.yaml", raw)
    sets = [text for override in overrides for text in ("--set", override)]
    crlft(command, file, *sets).refuses(*parts)
    assert not (tmp_path / "run").exists(), "nothing is written"


@pytest.mark.parametrize("command", ["prepare", "train", "run"])
@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name: str, command: str, tmp_path: Path, tiny_model: Path) -> None:
    source = write_conversations(tmp_path / "c.jsonl", 5)
    overrides, parts = CONFIGS[name]
    _refused(tmp_path, raw_config(tiny_model, tmp_path / "run", source), overrides, parts, command)


def test_the_config_file_is_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for text, part in (("model: [", "not valid YAML"), ("", "is empty"), ("- a\n", "holds a list")):
        file.write_text(text)
        crlft("train", file).refuses(str(file), part)


@pytest.mark.slow
def test_inputs(tmp_path: Path, tiny_model: Path, ray_session: None) -> None:
    good = write_conversations(tmp_path / "good.jsonl", 30).read_text().splitlines()
    contents = {
        "empty": ("", ["empty.jsonl"]),
        "broken": ("\n".join([*good[:15], '{"messages": [', *good[15:]]), ["broken.jsonl, line 16", "JSON"]),
        "types": ("\n".join([*good, json.dumps({"messages": 5, "rating": 9})]), ["types.jsonl, line 31", "messages"]),
        "classes": ("\n".join([*good, json.dumps({**json.loads(good[0]), "rating": 11})]), ["classes.jsonl, line 31"]),
    }
    for name, (text, parts) in contents.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text(text)
        config = write_config(tmp_path / "config.yaml", raw_config(tiny_model, tmp_path / name, file))
        crlft("prepare", config).refuses(*parts)
        # Only the list of rejected rows may be there, which the message names.
        left = [path.name for path in (tmp_path / name).glob("*")]
        assert left in ([], ["rejected.jsonl"]), left
    crlft("prepare", config, "--set", f"data.sources.0.path={tmp_path / 'none-*.jsonl'}").refuses("none-*.jsonl")
