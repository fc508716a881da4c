"""Plans of models that are a config.json alone: totals that are known, advice that holds, questions that are wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.errors import UserError
from crlft_ray.planning.gpus import GPUS
from crlft_ray.planning.plan_of import Plan, plan
from tests.cli.command import crlft
from tests.planning.shapes import LLAMA_7B, PARAMETERS_7B, config_of, write_shape
from tests.runs import write_config


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shape(tmp_path_factory.mktemp("7b"), **LLAMA_7B)


def _plan(model: Path, nodes: int = 1, gpus: int = 8, gpu: str = "a100-80g", **sections: Any) -> Plan:
    return plan(config_of(model, **sections), nodes=nodes, gpus=gpus, gpu=gpu)


def test_a_known_model(seven: Path) -> None:
    planned = _plan(seven)
    assert planned.parameters == PARAMETERS_7B
    always = planned.memory.always
    assert always["parameters"].value == pytest.approx(2 * PARAMETERS_7B / 8, rel=1e-4)
    assert always["optimizer state"].value == pytest.approx(12 * PARAMETERS_7B / 8, rel=1e-4)
    # 6 FLOP a parameter and token, and attention (PaLM, appendix B), at 40 % of 8 x 312 TFLOP/s.
    tokens = planned.time["step"].value * planned.time["tokens/s"].value
    attention = 6 * 32 * 4096 * 4096 / PARAMETERS_7B
    rate = 8 * 312e12 * 0.4 / ((6 + attention) * PARAMETERS_7B)
    assert tokens / planned.time["computation"].value == pytest.approx(rate, rel=0.05)
    assert sorted(path.name for path in seven.iterdir()) == ["config.json"], "nothing to load, nothing written"


def test_what_changes_memory(seven: Path) -> None:
    plain = _plan(seven).memory
    checkpointed = _plan(seven, train={"gradient_checkpointing": True}).memory
    offloaded = _plan(
        seven, train={"deepspeed": {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}}
    ).memory
    assert checkpointed.micro_batch["activations"].value < plain.micro_batch["activations"].value / 8
    assert checkpointed.micro_batch["activations"] in plain.unused.values()
    assert plain.micro_batch["activations"] in checkpointed.unused.values()
    moved = plain.always["optimizer state"].value + plain.always["gradients"].value
    assert plain.peak - offloaded.peak == pytest.approx(moved)
    assert offloaded.host["optimizer state"].value == 8 * plain.always["optimizer state"].value
    halves = [_plan(seven, nodes=nodes).memory.always["gradients"].value for nodes in (1, 2, 4)]
    assert halves == pytest.approx([halves[0], halves[0] / 2, halves[0] / 4], rel=1e-4)
    half_pack = _plan(seven, data={"pack_tokens": 4096}).memory
    assert half_pack.micro_batch["activations"].value == pytest.approx(
        plain.micro_batch["activations"].value / 2, rel=0.01
    )


@pytest.mark.parametrize("gpu", ["a100-40g", "a10g"])
def test_advice_holds(gpu: str, seven: Path) -> None:
    """What a plan advises fits, with the memory that it said, once it is done."""
    planned = _plan(seven, gpu=gpu)
    assert planned.fits == (not planned.mends)
    assert not planned.fits
    for mend in planned.mends:
        raw = config_of(seven).model_dump(mode="json", by_alias=True)
        nodes = 1
        for change in mend.changes:
            if change.startswith("--nodes "):
                nodes = int(change.removeprefix("--nodes "))
                continue
            key, _, value = change.partition("=")
            *sections, last = key.split(".")
            section = raw
            for name in sections:
                section = section.setdefault(name, {})
            section[last] = value if value == "cpu" else json.loads(value)
        mended = plan(validate(raw, "mended"), nodes=nodes, gpus=8, gpu=gpu)
        assert mended.fits, mend.changes
        assert mended.memory.peak == pytest.approx(mend.peak)
        # None of its changes is superfluous, which the search must show by itself.
        assert not any(set(other.changes) < set(mend.changes) for other in planned.mends)


def test_steps_and_hours(seven: Path) -> None:
    config = config_of(seven, train={"epochs": 3})
    unknown = plan(config, nodes=1, gpus=8, gpu="h100-80g")
    assert "run" not in unknown.time
    assert "steps" not in unknown.data
    known = plan(config, nodes=1, gpus=8, gpu="h100-80g", tokens=10 * config.train.global_batch_tokens)
    assert known.data["steps"].value == 30
    assert known.time["run"].value == pytest.approx(30 * known.time["step"].value / 3600)
    assert known.time["1M tokens"].value == pytest.approx(1e6 / known.time["tokens/s"].value)


def test_a_slow_network_costs_time(seven: Path) -> None:
    config = config_of(seven)
    slow, fast = (plan(config, nodes=2, gpus=8, gpu="h100-80g", network=network) for network in (10.0, 400.0))
    assert slow.time["communication"].value == pytest.approx(40 * fast.time["communication"].value)
    assert slow.time["step"].value == slow.time["communication"].value
    assert fast.communication == slow.communication


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3", "gemma", "gpt_neox", "phi3", "mixtral"])
def test_other_models(model_type: str, tmp_path: Path) -> None:
    settings = {"sliding_window": None} if model_type in ("mistral", "mixtral") else {}
    planned = _plan(write_shape(tmp_path, model_type, max_position_embeddings=4096, **settings), nodes=4)
    assert planned.parameters > 1e9
    assert planned.memory.micro_batch["activations"].value > 1e9


def test_questions_that_are_wrong(seven: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", config_of(seven).model_dump(mode="json", by_alias=True))
    cluster = ("--nodes", "1", "--gpus", "8", "--gpu", "a100-80g")
    crlft("plan", config, *cluster[:5], "a100").refuses("--gpu a100", *GPUS)
    crlft("plan", config, "--nodes", "1", "--gpus", "0", *cluster[4:]).refuses("--gpus 0", "more than 0")
    crlft("plan", config, "--nodes", "-1", *cluster[2:]).refuses("--nodes -1", "more than 0")
    crlft("plan", config, *cluster, "--tokens", "0").refuses("--tokens 0")
    crlft("plan", config, *cluster, "--network", "0").refuses("--network 0")
    crlft("plan", config, *cluster, "--set", f"model={tmp_path}/none").refuses(f"model: {tmp_path}/none cannot be")
    zero = "train.deepspeed.zero_optimization"
    crlft("plan", config, *cluster, "--set", f"{zero}.stage=2").refuses(f"{zero}.stage: 2", "stage 3")
    crlft("plan", config, *cluster, "--set", f"{zero}.reduce_bucket_size=-1").refuses(zero, "reduce_bucket_size")
    crlft("plan", config, *cluster, "--set", "train.deepspeed.communication_data_type=fp8").refuses(
        "train.deepspeed.communication_data_type: 'fp8'", "fp32"
    )
    with pytest.raises(UserError, match="--gpus 0"):
        plan(config_of(seven), nodes=1, gpus=0, gpu="l4")


@pytest.mark.parametrize(
    ("workers", "noted"),
    [
        (8, False),
        (4, True),
        ({"min": 4, "max": 16}, False),
        ({"min": 2, "max": 4}, True),
        ({"min": 9, "max": 16}, True),
    ],
)
def test_workers_that_do_not_go_with_the_gpus(seven: Path, workers: int | dict[str, int], noted: bool) -> None:
    notes = _plan(seven, train={"workers": workers}).notes
    assert any("--set train.workers=8" in note for note in notes) == noted


def test_what_a_person_and_a_program_see(seven: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", config_of(seven).model_dump(mode="json", by_alias=True))
    cluster = ("--nodes", "3", "--gpus", "8", "--gpu", "a100-40g")
    shown = crlft("plan", config, *cluster).out
    for part in ("it does NOT fit", "train.gradient_checkpointing=true", "~", "--set train.workers=24", "--tokens"):
        assert part in shown
    assert "8 of 72 micro-batches are empty" in shown
    found = json.loads(crlft("plan", config, *cluster, "--json").out.splitlines()[-1])
    assert found["memory"]["fits"] is False
    assert found["memory"]["always"]["gradients"]["estimate"] is False
    assert found["memory"]["micro_batch"]["activations"]["estimate"] is True
    assert found["time"]["step"]["formula"]
    assert found["mends"][0]["changes"]


def test_every_figure_says_where_it_comes_from(seven: Path) -> None:
    planned = asdict(_plan(seven))
    groups = [*planned["memory"].values(), *(planned[name] for name in ("communication", "time", "checkpoint", "data"))]
    figures = [figure for group in groups for figure in group.values() if isinstance(figure, dict)]
    assert len(figures) > 20
    assert all(figure["formula"] and figure["value"] >= 0 for figure in figures)
