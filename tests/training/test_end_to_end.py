"""From conversations to an export with two real ZeRO-3 workers: what a run leaves behind."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from crlft_ray.checkpoints.folder import complete_checkpoints
from crlft_ray.config import dump_config, load_config
from crlft_ray.storage import Place
from crlft_ray.training.schedule import order_of
from crlft_ray.training.worker import TrainJob
from tests.runs import FinishedRun
from tests.tracking.server import points

pytestmark = pytest.mark.slow

EVERY_STEP = {
    "train/loss", "train/lr", "train/grad_norm", "train/tokens_per_s", "train/learned_tokens", "train/memory_gb",
    "train/wait_s", "train/weight_share/expert", "train/weight_share/mixed", "train/skipped_not_finite",
    "train/skipped_no_weight", "train/step_s",
}  # fmt: skip
CHECKPOINTS = {f"checkpoint/{name}" for name in ("blocked_s", "write_s", "gb", "failed")}
HELDOUT = {f"heldout/{name}/as_{other}" for name in ("expert", "mixed") for other in ("expert", "mixed")}
HELDOUT |= {"heldout_se/expert", "heldout_se/mixed", "evaluate/seconds"}
ONCE = {"start/workers_s", "start/model_s", "export/seconds", "train/loss/expert", "train/loss/mixed"}


def test_the_run_is_a_hard_case(finished: FinishedRun) -> None:
    """Two epochs, each with a smaller last step in which the second worker has no pack."""
    order = order_of(finished.config, finished.manifest)
    last = order.steps_per_epoch - 1
    assert order.packs_of_step(last) == 1
    assert [order.rank_packs(last, rank, 2) for rank in (0, 1)] == [1, 0]
    assert finished.trained.steps == 2 * order.steps_per_epoch


def test_exactly_these_files(finished: FinishedRun) -> None:
    output = finished.output
    assert {path.name for path in output.iterdir()} == {
        "shards", "checkpoints", "export", "config.yaml", "result.json", "mlflow.db", "mlartifacts", "tracking",
    }  # fmt: skip
    assert {path.name for path in (output / "export").iterdir()} == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md", "crlft.json",
    }  # fmt: skip
    assert {path.name for path in (output / "tracking").iterdir()} == {
        "metrics.jsonl", "metrics.sent.json", "run.json", "run.lock", "artifacts", "curves", "verified.json",
    }  # fmt: skip
    assert (output / "config.yaml").read_text() == dump_config(finished.config)
    assert load_config(output / "config.yaml") == finished.config


def test_a_checkpoint_at_each_end_of_epoch_with_its_progress(finished: FinishedRun) -> None:
    newest_first, damages = complete_checkpoints(Place.of(finished.output / "checkpoints"))
    assert not damages
    found = newest_first[::-1]
    states = [checkpoint.state for checkpoint in found]
    packs = finished.manifest.packs
    assert [state.packs_consumed for state in states] == [packs, 2 * packs]
    assert [state.step for state in states] == [finished.trained.steps // 2, finished.trained.steps]
    for checkpoint, state in zip(found, states, strict=True):
        assert state.world_size == 2
        assert state.fingerprint == finished.manifest.fingerprint
        assert state.mlflow_run_id == finished.trained.mlflow_run_id
        assert state.config == finished.config.model_dump(mode="json", by_alias=True)
        assert sorted(file.rank for file in checkpoint.files) == [0, 0, 1, 1]
        assert state.parameters == _parameters(finished)


def test_the_result_file(finished: FinishedRun) -> None:
    result, trained = finished.result, finished.trained
    assert result == {
        "output": str(finished.output), "export": str(finished.output / "export"), "steps": trained.steps,
        "first_step": 0, "packs_consumed": 2 * finished.manifest.packs, "skipped_not_finite": 0,
        "skipped_no_weight": 0, "fingerprint": finished.manifest.fingerprint, "mlflow_run_id": trained.mlflow_run_id,
        "tracking_uri": f"sqlite:///{finished.output / 'mlflow.db'}", "metrics": trained.metrics,
    }  # fmt: skip
    assert set(result["metrics"]) == EVERY_STEP | CHECKPOINTS | HELDOUT | ONCE


def test_every_metric_is_in_mlflow_once_a_step(finished: FinishedRun) -> None:
    uri, run_id = finished.trained.tracking_uri, str(finished.trained.mlflow_run_id)
    steps = set(range(1, finished.trained.steps + 1))
    for name in EVERY_STEP:
        assert set(points(uri, run_id, name)) == steps, name
    shares = {name: points(uri, run_id, f"train/weight_share/{name}") for name in ("expert", "mixed")}
    for step in steps:
        assert shares["expert"][step] + shares["mixed"][step] == pytest.approx(1)
    for name in ("expert", "mixed"):
        # A class without a token in a step has no loss there.
        having = {step for step, share in shares[name].items() if share}
        assert set(points(uri, run_id, f"train/loss/{name}")) == having
    ends_of_epochs = {finished.trained.steps // 2, finished.trained.steps}
    for name in CHECKPOINTS:
        assert set(points(uri, run_id, name)) == ends_of_epochs, name
    for name in HELDOUT:
        assert set(points(uri, run_id, name)) == {*range(4, finished.trained.steps + 1, 4), finished.trained.steps}
    metrics = MlflowClient(uri).get_run(run_id).data.metrics
    assert any(name.startswith("system/") for name in metrics)


def test_the_mlflow_run_describes_itself(finished: FinishedRun) -> None:
    client = MlflowClient(finished.trained.tracking_uri)
    run = client.get_run(str(finished.trained.mlflow_run_id))
    assert run.info.status == "FINISHED"
    expected = {"train.workers": "2", "train.lr": "0.03", "classes.mixed.weight": "0.1", "template": "openchat",
                "data.context": "256", "evaluate.every": "4", "data.sources.0.class.field": "rating"}  # fmt: skip
    assert expected.items() <= run.data.params.items()
    assert set(_flat(finished.config.model_dump(mode="json", by_alias=True))) == set(run.data.params)
    (dataset,) = run.inputs.dataset_inputs
    assert finished.manifest.fingerprint.startswith(dataset.dataset.digest)
    assert run.data.tags["dataset.packs"] == str(finished.manifest.packs)
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert kept == {"config.yaml", "manifest.json", "curves"}
    curves = {item.path for item in client.list_artifacts(run.info.run_id, "curves")}
    names = ("loss", "learning_rate", "speed", "weight_share", "heldout")
    assert curves == {f"curves/{name}.png" for name in names}
    picture = client.download_artifacts(run.info.run_id, "curves/loss.png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_the_model_learns(finished: FinishedRun) -> None:
    uri, run_id = finished.trained.tracking_uri, str(finished.trained.mlflow_run_id)
    loss = points(uri, run_id, "train/loss")
    assert loss[1] == pytest.approx(5.95, abs=0.1), "an untrained model knows nothing: ln(385)"
    assert loss[finished.trained.steps] < loss[1] / 2
    heldout = points(uri, run_id, "heldout/expert/as_expert")
    assert heldout[finished.trained.steps] < heldout[4] / 2


def test_a_person_sees_the_progress(finished: FinishedRun) -> None:
    steps = finished.trained.steps
    lines = [line for line in finished.shown.splitlines() if line.startswith(f"step {steps}/{steps}")]
    assert re.fullmatch(
        r"step (\d+)/\1  loss \d+\.\d{3} \(expert \d+\.\d{3} mixed \d+\.\d{3}\)  \d+ tokens/s(  0:00 left)?", lines[0]
    )
    assert len(lines) == 1
    assert "Traceback" not in finished.shown


def test_a_job_pickles_small(finished: FinishedRun) -> None:
    """What every worker gets must not grow with the data."""
    from ray import cloudpickle

    from crlft_ray.shards.prepare import chat_tokenizer, shards_folder

    job = TrainJob(
        finished.config, finished.manifest, shards_folder(finished.config), Place.of("export"),
        chat_tokenizer(finished.config), 0.1, {}, None, 0.0,
    )  # fmt: skip
    assert len(cloudpickle.dumps(job)) < 100_000


def _parameters(finished: FinishedRun) -> int:
    from safetensors import safe_open

    with safe_open(f"{finished.trained.export}/model.safetensors", "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def _flat(value: object, prefix: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [key for name, child in value.items() for key in _flat(child, f"{prefix}.{name}" if prefix else name)]
    if isinstance(value, list) and any(isinstance(child, dict | list) for child in value):
        return [key for number, child in enumerate(value) for key in _flat(child, f"{prefix}.{number}")]
    return [prefix]
