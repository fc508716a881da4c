"""Shards, models, outputs and clusters that do not fit: one message, exit code 2, and nothing changed."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from crlft_ray.checkpoints.folder import commit, complete_checkpoints
from crlft_ray.storage import Place
from tests.cli.command import crlft, snapshot
from tests.runs import FinishedRun, write_config, write_learnable

pytestmark = pytest.mark.slow

ANOTHER_RUN = {
    "other weights": (["classes.mixed.weight=0.2"], ["holds another run", "class weights", "[1.0, 0.1]", "[1.0, 0.2]"]),
    "another seed": (["train.seed=1"], ["holds another run", "train.seed is 0", "1"]),
    "another precision": (["train.precision=fp32"], ["holds another run", "train.precision"]),
    "another batch": (["train.global_batch_tokens=1024"], ["holds another run", "train.global_batch_tokens"]),
    "fewer steps": (["train.max_steps=3"], ["train.max_steps", "has done 18 steps", "3"]),
    "a tracking folder": (["tracking.uri=runs"], ["tracking.uri"]),
}
OTHER_SHARDS = {
    "another template": (["template=chatml"], ["tokenizer and template", "crlft prepare"]),
    "other conditions": (["classes.expert.condition=GPT5"], ["classes and conditions", "GPT5", "crlft prepare"]),
    "another context": (["data.context=128"], ["data.context (256)", "(128)"]),
    "other packs": (["data.pack_tokens=1024"], ["data.pack_tokens (512)", "(1024)"]),
}


def _with(overrides: list[str]) -> list[str]:
    return [text for override in overrides for text in ("--set", override)]


@pytest.mark.parametrize("name", [*ANOTHER_RUN, *OTHER_SHARDS])
def test_an_output_that_holds_something_else(name: str, finished: FinishedRun) -> None:
    before = snapshot(finished.output)
    overrides, parts = {**ANOTHER_RUN, **OTHER_SHARDS}[name]
    crlft("train", finished.config_file, *_with(overrides)).refuses(*parts)
    assert snapshot(finished.output) == before


@pytest.fixture
def copied(finished: FinishedRun, tmp_path: Path) -> tuple[Path, Path]:
    """A config whose output holds nothing but the finished run's shards."""
    output = tmp_path / "run"
    shutil.copytree(finished.output / "shards", output / "shards")
    raw = finished.config.model_dump(mode="json", by_alias=True)
    return write_config(tmp_path / "config.yaml", {**raw, "output": str(output)}), output


def test_classes_in_another_order(copied: tuple[Path, Path], finished: FinishedRun) -> None:
    """Shards know a class by its number, so the weights would change places."""
    config, output = copied
    raw = finished.config.model_dump(mode="json", by_alias=True)
    classes = dict(reversed(raw["classes"].items()))
    crlft("train", write_config(config, {**raw, "output": str(output), "classes": classes})).refuses(
        "classes and conditions", "crlft prepare"
    )
    prepared = crlft("prepare", config, "--json")
    assert prepared.code == 0, prepared.err
    assert not json.loads(prepared.out)["unchanged"]


def test_other_data_than_the_checkpoints(copied: tuple[Path, Path], finished: FinishedRun) -> None:
    config, output = copied
    shutil.copytree(finished.output / "checkpoints", output / "checkpoints")
    (newest, *_), _ = complete_checkpoints(Place.of(output / "checkpoints"))
    for changes, parts in (
        ({"fingerprint": "0" * 64}, ["other data", "000000000000", finished.manifest.fingerprint[:12]]),
        ({"tokenizer": "0" * 64}, ["another tokenizer or template", "000000000000"]),
        ({"model_shape": {**newest.state.model_shape, "hidden_size": 32}}, ["'hidden_size': 32", "'hidden_size': 16"]),
    ):
        commit(newest.place, replace(newest.state, **changes), newest.files)
        crlft("train", config).refuses(str(output), *parts, "--fresh")


def test_a_run_keeps_its_shards_when_its_data_have_changed(
    copied: tuple[Path, Path], finished: FinishedRun, tmp_path: Path
) -> None:
    """The conversations may be brought back; then it goes on."""
    config, output = copied
    shutil.copytree(finished.output / "checkpoints", output / "checkpoints")
    raw = yaml.safe_load(config.read_text())
    raw["data"]["sources"][0]["path"] = str(write_learnable(tmp_path / "more.jsonl", 170))
    write_config(config, raw)
    before = snapshot(output)
    for command in ("run", "prepare"):
        crlft(command, config).refuses(str(output), "on other data", "left as they are", "--fresh")
        assert snapshot(output) == before
    prepared = crlft("prepare", config, "--fresh", "--json")
    assert (prepared.code, json.loads(prepared.out)["unchanged"]) == (0, False)


def test_damaged_and_missing_shards(copied: tuple[Path, Path]) -> None:
    config, output = copied
    shard = output / "shards" / "shard-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    crlft("train", config).refuses(str(shard), "damaged", "prepare")
    shard.unlink()
    crlft("train", config).refuses(str(shard), "missing", "prepare")
    (output / "shards" / "manifest.json").write_text("{")
    crlft("train", config).refuses("manifest.json", "damaged", "prepare")
    shutil.rmtree(output / "shards")
    crlft("train", config).refuses("no shards here", "crlft prepare")
    assert list(output.iterdir()) == []


def test_models_that_cannot_be_trained(copied: tuple[Path, Path], tiny_model: Path, tmp_path: Path) -> None:
    config, output = copied
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    settings = json.loads((model / "config.json").read_text())
    window = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 64}
    wrong: dict[str, dict[str, object]] = {
        "sliding-window attention of 64 tokens": window,
        "data.context: 256 is more than the 128 positions": {"max_position_embeddings": 128},
    }
    for part, change in wrong.items():
        (model / "config.json").write_text(json.dumps({**settings, **change}))
        crlft("train", config, "--set", f"model={model}").refuses(part, str(model))
    (model / "config.json").write_text(json.dumps(settings))
    for file in model.glob("tokenizer*"):
        file.unlink()
    for command in ("prepare", "train"):
        crlft(command, config, "--set", f"model={model}").refuses(f"model: {model} holds no tokenizer")
    crlft("train", config, "--set", f"model={tmp_path / 'nowhere'}").refuses(f"model: {tmp_path / 'nowhere'} cannot be")
    assert [path.name for path in output.iterdir()] == ["shards"]


def test_more_workers_than_the_cluster_can_give(copied: tuple[Path, Path]) -> None:
    config, output = copied
    began = time.monotonic()
    crlft("train", config, "--set", "train.workers=64").refuses(
        "train.workers: 64 workers of 1 CPU each do not fit", "room for 4", "lower train.workers"
    )
    # Nobody is waited for on a cluster of one's own.
    assert time.monotonic() - began < 25
    assert [path.name for path in output.iterdir()] == ["shards"]


def test_settings_that_deepspeed_does_not_take(copied: tuple[Path, Path]) -> None:
    """They come to light in the workers, which are not started again for them."""
    config, _ = copied
    key = "train.deepspeed.zero_optimization.reduce_buket_size"
    crlft("train", config, "--set", f"{key}=5").refuses(f"crlft: {key}: DeepSpeed does not take it: unknown key (is 5)")


def test_a_fresh_start_that_is_refused_removes_nothing(
    copied: tuple[Path, Path], finished: FinishedRun, tmp_path: Path
) -> None:
    config, output = copied
    for name in ("checkpoints", "tracking", "export"):
        shutil.copytree(finished.output / name, output / name)
    for name in ("config.yaml", "result.json"):
        shutil.copy(finished.output / name, output)
    before = snapshot(output)
    for overrides, part in (
        ([f"model={tmp_path / 'nowhere'}"], "cannot be loaded"),
        (["template=chatml"], "tokenizer and template"),
        (["data.context=128"], "data.context (256)"),
        (["tracking.uri=runs"], "tracking.uri"),
        (["train.workers=64"], "do not fit"),
    ):
        crlft("train", config, "--fresh", *_with(overrides)).refuses(part)
        assert snapshot(output) == before, part
    (output / "shards" / "shard-00000.arrow").write_bytes(b"damaged")
    before = snapshot(output)
    crlft("train", config, "--fresh").refuses("shard-00000.arrow", "damaged")
    assert snapshot(output) == before


def test_inspect_and_chat_on_wrong_paths(finished: FinishedRun, tiny_model: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", finished.config_file):
        crlft("inspect", path).refuses(str(path), "no shards, checkpoint, export or run output here")
    shards = finished.output / "shards"
    crlft("inspect", shards, "--pack", "99").refuses("no pack 99", "0 to 32")
    crlft("inspect", shards, "--conversation", "99").refuses("holds conversations 0 to", "not 99")
    crlft("chat", tmp_path / "nowhere", "--message", "hi").refuses("nowhere", "no such model folder")
    crlft("chat", tiny_model, "--message", "hi").refuses(str(tiny_model), "no chat template")


def test_evaluate_on_wrong_paths(finished: FinishedRun, tiny_model: Path, tmp_path: Path) -> None:
    export, shards = finished.trained.export, str(finished.output / "shards")
    crlft("evaluate", export, "--suite", "mmlu").refuses("'mmlu' is none of agieval, bbh")
    crlft("evaluate", tmp_path / "nowhere", "--shards", shards).refuses("nowhere", "no such model folder")
    crlft("evaluate", tmp_path, "--shards", shards).refuses(str(tmp_path), "no config.json")
    crlft("evaluate", export, "--shards", tmp_path).refuses(str(tmp_path), "no shards here")
    crlft("evaluate", export, "--threads", "64", "--output", tmp_path / "out").refuses(
        "no node of this cluster has 64 CPUs", "fewer threads"
    )
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    for file in model.glob("tokenizer*"):
        file.unlink()
    crlft("evaluate", model, "--shards", shards).refuses(str(model), "tokenizer")


def test_a_name_that_no_hub_has(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, as on many clusters."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shards = str(finished.output / "shards")
    crlft("evaluate", "nobody/nothing", "--shards", shards).refuses("nobody/nothing", "the hub does not give it")
    crlft("chat", "nobody/nothing", "--message", "hi").refuses("nobody/nothing", "the hub does not give it")
    crlft("train", finished.config_file, "--set", "model=nobody/nothing").refuses("nobody/nothing", "cannot be loaded")
