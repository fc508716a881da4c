"""`--json`: the last line of what a command prints is one JSON object, for every command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.json_text import json_text
from tests.cli.command import Outcome, crlft
from tests.runs import FinishedRun

pytestmark = pytest.mark.slow


def _object(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(outcome.out.splitlines()[-1], parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_prepare_with_nothing_changed(finished: FinishedRun) -> None:
    found = _object(crlft("prepare", finished.config_file, "--json"))
    assert found["unchanged"] is True
    assert found["manifest"]["fingerprint"] == finished.manifest.fingerprint
    said = crlft("prepare", finished.config_file)
    assert "nothing has changed, nothing was done" in said.out.replace("\n", " ")


def test_inspect_shards(finished: FinishedRun) -> None:
    shards = finished.output / "shards"
    found = _object(crlft("inspect", shards, "--json"))
    assert (found["kind"], found["packs"]) == ("shards", finished.manifest.packs)
    shown = crlft("inspect", shards, "--pack", "3").out
    assert "pack 3, conversation 0, class " in shown
    assert "Assistant:" in shown
    assert "<|end_of_turn|>" in shown


def test_inspect_a_checkpoint_an_export_and_an_output(finished: FinishedRun) -> None:
    checkpoint = sorted((finished.output / "checkpoints").glob("checkpoint_*/"))[-1]
    found = _object(crlft("inspect", checkpoint, "--json"))
    assert (found["kind"], found["step"], found["world_size"]) == ("checkpoint", finished.trained.steps, 2)
    export = _object(crlft("inspect", finished.trained.export, "--json"))
    assert (export["kind"], export["model_type"], export["vocab_size"]) == ("export", "llama", 385)
    assert export["weights_bytes"] == (Path(finished.trained.export) / "model.safetensors").stat().st_size
    output = _object(crlft("inspect", finished.output, "--json"))
    assert (output["kind"], output["steps"]) == ("run", finished.trained.steps)
    assert output["packs"] == finished.manifest.packs
    for path in (checkpoint, finished.trained.export, finished.output):
        shown = crlft("inspect", path)
        assert shown.code == 0
        assert "Traceback" not in shown.err
        assert shown.out.strip()


def test_chat(finished: FinishedRun) -> None:
    found = _object(crlft("chat", finished.trained.export, "--message", "hello", "--max-new-tokens", "5", "--json"))
    assert found["message"] == "hello"
    assert list(found["replies"]) == ["expert"]
    beside = ("--as", "mixed", "--max-new-tokens", "5")
    both = _object(crlft("chat", finished.trained.export, "--message", "hello", *beside, "--json"))
    assert list(both["replies"]) == ["expert", "mixed"]
    assert both["replies"]["expert"] == found["replies"]["expert"] != both["replies"]["mixed"]
    shown = crlft("chat", finished.trained.export, "--message", "hello", *beside)
    assert shown.out.startswith("expert: ")
    assert "\nmixed: " in shown.out
    crlft("chat", finished.trained.export, "--message", "hi", "--as", "teacher").refuses("none of this model's classes")
    crlft("chat", finished.config.model, "--message", "hi", "--as", "mixed").refuses("was not trained with conditions")


def test_evaluate_the_export_beside_its_base(finished: FinishedRun, tmp_path: Path) -> None:
    arguments = [
        "--output",
        str(tmp_path),
        "--shards",
        str(finished.output / "shards"),
        "--heldout",
        "4",
        "--limit",
        "1",
    ]
    found = _object(crlft("evaluate", finished.trained.export, finished.config.model, *arguments, "--json"))
    tuned, base = (model["heldout"]["losses"] for model in found["models"])
    assert set(tuned) == {"expert", "mixed"}
    assert set(tuned["expert"]) == {"expert", "mixed"}
    assert set(base["expert"]) == {"no template"}
    assert tuned["expert"]["expert"] < base["expert"]["no template"] / 2
    assert {tuple(model["suites"]) for model in found["models"]} == {("agieval",)}


def test_numbers_that_json_does_not_know() -> None:
    assert json_text({"a": [math.nan, 1.0], "b": (math.inf,), "c": {"d": -math.inf}, "é": 1}) == (
        '{"a": [null, 1.0], "b": [null], "c": {"d": null}, "é": 1}'
    )


def test_inspect_an_output_that_was_moved(finished: FinishedRun, tmp_path: Path) -> None:
    """Its config still names the old place."""
    moved = tmp_path / "moved"
    shutil.copytree(finished.output / "shards", moved / "shards")
    shutil.copy(finished.output / "config.yaml", moved)
    manifest = moved / "shards" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(finished.manifest.fingerprint, "0" * 64))
    found = _object(crlft("inspect", moved, "--json"))
    assert (found["kind"], found["fingerprint"]) == ("shards", "0" * 64)
