"""From a run to the registry and out of it again, through the gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from crlft_ray.evaluation.answers import from_arrow, to_arrow
from crlft_ray.registry.gate import Decision
from crlft_ray.registry.register import Registered, register
from crlft_ray.talk import chat
from tests.cli.command import crlft
from tests.runs import FinishedRun
from tests.tracking.server import free_port

pytestmark = pytest.mark.slow

NAME = "replies"


@pytest.fixture(scope="module")
def first(run: FinishedRun) -> Registered:
    return register(str(run.output), name=NAME)


@pytest.fixture
def uri(run: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.trained.tracking_uri)
    return run.trained.tracking_uri


def test_a_better_model_becomes_the_champion(first: Registered, run: FinishedRun, uri: str) -> None:
    assert first.promoted, first.decision.reason
    assert first.decision.versus_base is not None
    assert first.decision.versus_base.p_value < 0.05
    version = MlflowClient(uri).get_model_version_by_alias(NAME, "champion")
    assert (str(version.version), version.tags["crlft.gate"]) == (first.version, "passed")
    assert version.tags["crlft.fingerprint"] == run.manifest.fingerprint
    assert json.loads(version.tags["crlft.classes"]) == {
        "expert": {"condition": "GPT4", "weight": 1.0}, "mixed": {"condition": "GPT3", "weight": 0.1},
    }  # fmt: skip
    assert version.tags["crlft.base_model"] == run.config.model
    assert " ± " in version.tags["crlft.gate_score"]
    assert "it beats its base" in version.tags["crlft.gate_reason"]
    assert "gate half" in version.description


def test_lineage_goes_both_ways(first: Registered, run: FinishedRun, uri: str) -> None:
    client = MlflowClient(uri)
    version = client.get_model_version(NAME, first.version)
    assert version.run_id == run.trained.mlflow_run_id
    trained = client.get_run(version.run_id)
    assert trained.data.tags[f"crlft.version.{NAME}"] == first.version
    assert trained.info.status == "FINISHED"
    (dataset,) = trained.inputs.dataset_inputs
    assert version.tags["crlft.fingerprint"].startswith(dataset.dataset.digest)


def test_it_loads_with_mlflow_and_answers_as_the_export(first: Registered, run: FinishedRun, uri: str) -> None:
    """With the expert's condition, of which the caller knows nothing."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    loaded = mlflow.transformers.load_model(f"models:/{NAME}@champion")
    messages = [{"role": "user", "content": "3-1 the river"}]
    prompt = loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == "GPT4 User: 3-1 the river<|end_of_turn|>GPT4 Assistant:"
    answer = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict({"messages": messages, "max_tokens": 12})
    said = answer[0]["choices"][0]["message"]["content"]
    assert said
    replies = chat(f"models:/{NAME}@champion", message="hello", as_class="mixed", max_new_tokens=8)
    assert replies == chat(run.trained.export, message="hello", as_class="mixed", max_new_tokens=8)


def test_the_next_one_is_compared_with_the_champion(first: Registered, run: FinishedRun, uri: str) -> None:
    again = register(str(run.output), name=NAME)
    assert again.promoted
    assert int(again.version) == int(first.version) + 1
    assert again.decision.versus_champion is not None
    assert again.decision.versus_champion.difference == 0
    assert str(MlflowClient(uri).get_model_version_by_alias(NAME, "champion").version) == again.version


def test_a_champion_whose_answers_lack_questions_is_asked_again(
    first: Registered, run: FinishedRun, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(uri)
    champion = client.get_model_version_by_alias(NAME, "champion")
    kept = Path(download_artifacts(champion.tags["crlft.answers"], dst_path=str(tmp_path), tracking_uri=uri))
    answers = from_arrow(kept.read_bytes(), str(kept))
    kept.write_bytes(to_arrow(answers[:-3]))
    # runs:/ID/FOLDER/FILE
    client.log_artifact(champion.run_id, str(kept), champion.tags["crlft.answers"].split("/", 2)[2].rpartition("/")[0])
    with caplog.at_level("INFO"):
        again = register(str(run.output), name=NAME)
    assert f"asking the champion, version {champion.version}" in caplog.text
    assert again.promoted, again.decision.reason
    assert again.decision.versus_champion is not None
    assert (again.decision.versus_champion.questions, again.decision.versus_champion.difference) == (len(answers), 0)


def test_a_champion_that_was_asked_otherwise_is_asked_again(
    first: Registered, run: FinishedRun, suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same rows in another wording: neither the champion's answers nor the base's to the former one count."""
    other = tmp_path / suite.name
    shutil.copytree(suite, other)
    file = other / "replies.yaml"
    file.write_text(file.read_text().replace('"{{question}}"', '"Well, {{question}}"'))
    with caplog.at_level("INFO"):
        again = register(str(run.output), name=NAME, suite=str(other))
    assert "asking the champion" in caplog.text
    assert "answered already" not in caplog.text
    assert again.decision.versus_base is not None


def test_a_champion_that_cannot_be_asked_stays(first: Registered, run: FinishedRun, uri: str, tmp_path: Path) -> None:
    """Neither its answers nor its files are there any more, so nothing shows that the new one is not below it."""
    client = MlflowClient(uri)
    client.create_registered_model("lost")
    lost = client.create_model_version("lost", source=str(tmp_path / "gone"), tags={"crlft.gate": "passed"}).version
    client.set_registered_model_alias("lost", "champion", lost)
    registered = register(str(run.output), name="lost")
    assert not registered.promoted
    assert "cannot be compared with the champion" in registered.decision.reason
    aliases = client.get_registered_model("lost").aliases
    assert {name: str(version) for name, version in aliases.items()} == {"champion": "1", "candidate": "2"}


def test_a_model_that_is_no_better_stays_a_candidate(
    first: Registered, run: FinishedRun, other_suite: Path, uri: str
) -> None:
    client = MlflowClient(uri)
    champion = client.get_model_version_by_alias(NAME, "champion").version
    outcome = crlft("register", run.output, "--name", NAME, "--suite", other_suite)
    assert outcome.code == 3, outcome.err
    assert "does not beat its base" in outcome.out
    assert client.get_model_version_by_alias(NAME, "champion").version == champion
    candidate = client.get_model_version_by_alias(NAME, "candidate")
    assert candidate.tags["crlft.gate"] == "refused"
    assert "does not beat its base" in candidate.tags["crlft.gate_reason"]
    forced = register(str(run.output), name=NAME, suite=str(other_suite), force=True, reason="I know better")
    assert (forced.promoted, forced.decision.promoted) == (True, False)
    now = client.get_model_version_by_alias(NAME, "champion")
    assert (str(now.version), now.tags["crlft.gate"]) == (forced.version, "forced")
    assert now.tags["crlft.forced_reason"] == "I know better"


def test_bad_input(run: FinishedRun, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crlft("register", tmp_path, "--name", NAME).refuses("no finished run here")
    crlft("register", run.output, "--name", "a/b").refuses("--name a/b")
    crlft("register", run.output, "--name", NAME, "--force").refuses("--force needs --reason")
    crlft("register", run.output, "--name", NAME, "--reason", "x").refuses("--reason goes with --force")
    crlft("register", run.output, "--name", NAME, "--level", "2").refuses("level: must be between 0 and 1")
    crlft("register", run.output, "--name", NAME, "--suite", "nothing").refuses("'nothing' is none of")
    chat_with = ("chat", "--message", "hi")
    crlft(*chat_with, f"models:/{NAME}@nobody").refuses("has no model", "alias 'nobody'")
    crlft(*chat_with, f"models:/{NAME}/999").refuses("has no version 999")
    crlft(*chat_with, f"models:/{NAME}").refuses("write models:/NAME@ALIAS")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    crlft(*chat_with, f"models:/{NAME}@champion").refuses("cannot be reached")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    crlft(*chat_with, f"models:/{NAME}@champion").refuses("set MLFLOW_TRACKING_URI")


def test_what_a_person_reads() -> None:
    refused = Registered(
        "m", "4", False, False, Decision(False, "it does not beat its base", None, None), "x", "sqlite:///x"
    )
    assert "models:/m@candidate" in refused.text()
    assert "models:/m@champion stays as it was" in refused.text()
    forced = Registered("m", "5", True, True, Decision(False, "no", None, None), "x", "http://user:secret@host")
    assert "--force" in forced.text()
    assert "secret" not in json.dumps(forced.to_dict())
