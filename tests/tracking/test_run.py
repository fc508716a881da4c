from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient

from crlft_ray.errors import UserError
from crlft_ray.tracking import Run, tracking_uri
from crlft_ray.tracking.store import entity_name, flatten, reason, shown

from .server import SPEC, free_port


def _with_params(**params: Any) -> Any:
    return dataclasses.replace(SPEC, params={**SPEC.params, **params})


def test_the_uri_is_absolute_and_beside_the_output_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(None, "runs/a b") == f"sqlite:///{tmp_path}/runs/a b/mlflow.db"
    assert tracking_uri("sqlite:///own.db", "x") == f"sqlite:///{tmp_path}/own.db"
    assert tracking_uri("sqlite:////abs/own.db", "x") == "sqlite:////abs/own.db"
    assert tracking_uri("http://host:5000", "s3://bucket/x") == "http://host:5000"


@pytest.mark.parametrize(("uri", "output"), [("mlruns", "x"), ("file:///mlruns", "x"), (None, "s3://bucket/x")])
def test_a_uri_that_mlflow_cannot_use_is_named(uri: str | None, output: str) -> None:
    with pytest.raises(UserError, match=r"^tracking\.uri: "):
        tracking_uri(uri, output)


def test_an_unknown_kind_of_server_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri: .*gopher://"):
        Run("gopher://host", tmp_path).start(SPEC)


def test_passwords_are_not_shown() -> None:
    uri = "postgresql://me:secret@host/db"
    assert shown(uri) == "postgresql://…@host/db"
    assert "secret" not in reason(ValueError(f"{uri} and http://you:secret@h/"), uri)


@pytest.mark.parametrize(
    "uri",
    ["http://me:secret@host:5000", "postgresql://me:secret@host/db", "postgresql://host/db?user=me&password=secret"],
)
def test_a_password_in_the_uri_would_be_kept_with_the_run(uri: str) -> None:
    with pytest.raises(UserError, match=r"^tracking\.uri: .* holds a password.*MLFLOW_TRACKING_PASSWORD") as caught:
        tracking_uri(uri, "x")
    assert "secret" not in str(caught.value)
    assert tracking_uri("postgresql://me@host/db", "x") == "postgresql://me@host/db"


def test_credentials_of_storage_are_no_parameters(uri: str, tmp_path: Path) -> None:
    spec = _with_params(output="s3://key:secret@bucket/a b", data={"sources": ["s3://k:secret@b/x", "a@b"]})
    run_id = Run(uri, tmp_path / "t").start(spec)
    params = MlflowClient(uri).get_run(run_id).data.params
    assert params["output"] == "s3://…@bucket/a b"
    assert params["data.sources"] == '["s3://…@b/x", "a@b"]'
    assert "secret" not in (tmp_path / "t" / "run.json").read_text()


def test_nested_settings_become_flat_parameters() -> None:
    nested = {"a": {"b": None, "c": True}, "l": [1, 2], "s": [{"p": "x"}, {"p": "y"}], "t": "text", "e": {}}
    flat = {"a.b": "null", "a.c": "true", "l": "[1, 2]", "s.0.p": "x", "s.1.p": "y", "t": "text", "e": "{}"}
    assert flatten(nested) == flat
    assert flatten({}) == {}


def test_names_that_mlflow_refuses_are_changed_without_meeting() -> None:
    assert entity_name("train/loss/Größe a.b-c:d") == "train/loss/Größe a.b-c:d"
    odd = ["a(b)", "a[b]", "a//b", "a/../b", "/a", "x" * 300, "x" * 301, "é\n"]
    names = [entity_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all(len(name) <= 250 for name in names)


def test_everything_about_a_run_is_in_mlflow(uri: str, tmp_path: Path) -> None:
    params = {f"p{number}": number for number in range(250)}
    spec = _with_params(long="x" * 7000, classes={"very good (v2)": {"weight": 1.0}}, empty="", **params)
    config = tmp_path / "config.yaml"
    config.write_text("model: tiny\n")
    run = Run(uri, tmp_path / "out" / "tracking")
    run_id = run.start(spec)
    assert run_id is not None
    assert run.log_artifacts([config], "config")
    assert run.finish()

    seen = MlflowClient(uri).get_run(run_id)
    assert seen.info.status == "FINISHED"
    assert seen.info.run_name == "a run"
    assert {name: seen.data.params[name] for name in ("train.lr", "train.max_steps", "train.betas", "p249")} == {
        "train.lr": "0.0001",
        "train.max_steps": "null",
        "train.betas": "[0.9, 0.95]",
        "p249": "249",
    }
    assert len(seen.data.params["long"]) == 6000
    assert len(seen.data.params) == 4 + 3 + 250
    dataset = seen.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("shards", "f" * 36)
    assert json.loads(dataset.profile)["counts"] == {"expert": 3, "mixed": 4}
    assert seen.data.tags["dataset.fingerprint"] == "f" * 64
    assert seen.data.tags["dataset.counts.mixed"] == "4"
    assert seen.data.tags["dataset.fill"] == "0.997"
    artifacts = Path(unquote(urlsplit(seen.info.artifact_uri).path))
    assert (artifacts / "config" / "config.yaml").read_text() == "model: tiny\n"
    assert artifacts.is_relative_to(tmp_path / "mlartifacts")


def test_a_continued_run_shows_what_was_changed(uri: str, tmp_path: Path) -> None:
    first = Run(uri, tmp_path / "t").start(_with_params(workers=1))
    Run(uri, tmp_path / "t").finish("KILLED")
    for workers in (1, 2, 2, 4):
        assert Run(uri, tmp_path / "t").start(_with_params(workers=workers, more="new")) == first
    seen = MlflowClient(uri).get_run(first)
    assert seen.info.status == "RUNNING"
    assert (seen.data.params["workers"], seen.data.params["more"]) == ("1", "new")
    assert [value for name, value in seen.data.tags.items() if name.startswith("changed.")] == ["1 → 2 → 4"]
    assert len(seen.inputs.dataset_inputs) == 1


def test_a_checkpoints_run_id_is_continued_from_an_empty_folder(uri: str, tmp_path: Path) -> None:
    first = Run(uri, tmp_path / "a").start(SPEC)
    assert Run(uri, tmp_path / "b").start(SPEC, run_id=first) == first
    assert Run(uri, tmp_path / "c").start(SPEC) != first


def test_a_run_that_was_deleted_in_mlflow_is_replaced(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Run(uri, tmp_path / "a").start(SPEC)
    MlflowClient(uri).delete_run(first)
    second = Run(uri, tmp_path / "a").start(SPEC)
    assert second not in (None, first)
    assert "goes on in a new one" in caplog.text


def test_a_run_whose_creation_was_not_answered_is_found_again(uri: str, tmp_path: Path) -> None:
    first = Run(uri, tmp_path / "a").start(SPEC)
    path = tmp_path / "a" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run_id": None, "opened": False}))
    assert Run(uri, tmp_path / "a").start(SPEC) == first


def test_a_deleted_experiment_is_the_users_to_mend(uri: str, tmp_path: Path) -> None:
    Run(uri, tmp_path / "a").start(SPEC)
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("tests").experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment: 'tests' was deleted"):
        Run(uri, tmp_path / "b").start(SPEC)


def test_a_server_that_is_away_stops_nothing_and_gets_everything_later(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plot = tmp_path / "loss.png"
    plot.write_bytes(b"png")
    away = Run(f"http://127.0.0.1:{free_port()}", tmp_path / "t")
    with caplog.at_level(logging.WARNING):
        assert away.start(SPEC) is None
        assert not away.log_artifacts([plot, tmp_path / "never.png"], "plots")
        assert not away.finish("FAILED")
    assert caplog.text.count("told later") == 3

    back = Run(uri, tmp_path / "t")
    back.deliver()
    seen = MlflowClient(uri).get_run(back.run_id)
    assert seen.info.status == "FAILED"
    assert seen.data.params["model"] == "tiny"
    assert [file.path for file in MlflowClient(uri).list_artifacts(back.run_id, "plots")] == ["plots/loss.png"]
    assert "never.png is gone" in caplog.text
    back.deliver()
    assert len(MlflowClient(uri).search_runs([seen.info.experiment_id])) == 1
