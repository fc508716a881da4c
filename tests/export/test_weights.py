"""Weights of a partitioned model: little memory, the right values, and never half an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crlft_ray.config import validate
from crlft_ray.device import worker_environment
from tests.export.partitioned import export_and_die, measure_writing, write_large_model
from tests.synthetic import raw_config
from tests.training.gradients import write_model
from tests.training.ranks import run_ranks

pytestmark = pytest.mark.slow

SHARD_BYTES = 16 << 20
LARGEST_PARAMETER = 4000 * 512 * 4


@pytest.fixture(scope="module", params=["the workers' allocator", "the system's"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[int]]:
    """The source, the written folder, and by how much each rank grew."""
    folder = tmp_path_factory.mktemp("large")
    source, target = write_large_model(folder / "source"), folder / "target"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "the workers' allocator":
            environment = worker_environment(validate(raw_config(str(source), "unused", "unused"), "test"))
            assert "jemalloc" in environment["LD_PRELOAD"]
            for name, value in environment.items():
                patch.setenv(name, value)
        run_ranks(2, folder, measure_writing, str(source), str(target), SHARD_BYTES, str(folder / "grown"))
    for name in ("config.json", "generation_config.json"):
        (target / name).write_bytes((source / name).read_bytes())
    return source, target, [json.loads((folder / f"grown.{rank}").read_text()) for rank in range(2)]


def test_writing_takes_at_most_two_shard_files_of_memory(written: tuple[Path, Path, list[int]]) -> None:
    source, _, (writer, other) = written
    assert sum(file.stat().st_size for file in source.glob("*.safetensors")) > 200e6
    assert writer <= 2 * SHARD_BYTES + LARGEST_PARAMETER
    assert other <= 2 * SHARD_BYTES


def test_the_sharded_folder_holds_the_source_weights(written: tuple[Path, Path, list[int]]) -> None:
    from transformers import AutoModelForCausalLM

    source, target, _ = written
    files = sorted(target.glob("*.safetensors"))
    assert len(files) > 10
    assert all(file.stat().st_size <= SHARD_BYTES + (64 << 10) for file in files)
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (target, source))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert index["metadata"]["total_size"] == sum(v.nbytes for n, v in theirs.items() if n != "lm_head.weight")


def test_an_untied_model_keeps_its_output_layer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from crlft_ray.export.weights import write_weights

    model = AutoModelForCausalLM.from_pretrained(write_model(tmp_path / "source", tied=False))
    write_weights(model, tmp_path)
    (tmp_path / "config.json").write_bytes((tmp_path / "source/config.json").read_bytes())
    again = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(again["lm_head.weight"], again["model.embed_tokens.weight"])


def test_a_killed_export_leaves_nothing_or_the_old_one(tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "run" / "export"
    for old, dies_before in ((None, "model.safetensors.index.json"), ("an older export", "README.md")):
        if old:
            target.mkdir()
            (target / "config.json").write_text(old)
        with pytest.raises(Exception, match="SIGKILL"):
            run_ranks(1, tmp_path, export_and_die, str(tiny_model), str(target), dies_before)
        left = [path.name for path in target.parent.glob("*.part/*/*.safetensors")]
        assert len(left) > 5, "it had come far"
        assert target.exists() == bool(old)
        assert [path.read_text() for path in target.glob("*")] == [old] * bool(old)
    run_ranks(1, tmp_path, export_and_die, str(tiny_model), str(target), None)
    assert len(list(target.glob("*.safetensors"))) > 5
    assert (target / "config.json").read_text() != "an older export"
    assert [path.name for path in target.parent.iterdir()] == ["export"], "what the killed ones left is gone"
