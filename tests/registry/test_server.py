"""Tracking and the registry on a server with PostgreSQL, an artifact store behind its proxy, and users."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow import MlflowClient
from mlflow.server import get_app_client

from crlft_ray.evaluation.scoring import score_models
from crlft_ray.evaluation.suites import load_suite
from crlft_ray.registry.register import Registered, register
from crlft_ray.registry.registry import version_folder
from crlft_ray.registry.turns import GATE, PENDING, turn
from crlft_ray.storage import Place
from crlft_ray.tracking import mlflow_environment
from tests.cli.command import Outcome, crlft
from tests.postgres import postgres_programs
from tests.registry.conftest import learned_run
from tests.runs import FinishedRun
from tests.tracking.protected import Site, protected_server
from tests.tracking.server import points, until

PROGRAMS = postgres_programs()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROGRAMS is None, reason="PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql/*/bin"
    ),
]

NAME = "served-replies"


@pytest.fixture(scope="module")
def site(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """This process is `trainer`; Ray was started before it had credentials, as on a cluster."""
    assert PROGRAMS is not None
    with (
        protected_server(PROGRAMS, tmp_path_factory.mktemp("site")) as site,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Another test may have named its own store in this process, which goes before the environment.
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
        patch.setattr("mlflow.tracking._model_registry.utils._registry_uri", None)
        site.become("trainer", patch)
        yield site


@pytest.fixture(scope="module")
def tracked(site: Site, tiny_model: Path, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return learned_run(tmp_path_factory.mktemp("tracked"), tiny_model, suite, tracking={"uri": site.uri})


@pytest.fixture(scope="module")
def shorter(site: Site, tiny_model: Path, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("shorter")
    return learned_run(folder, tiny_model, suite, tracking={"uri": site.uri}, train={"epochs": 1})


@pytest.fixture(scope="module")
def registered(tracked: FinishedRun) -> Registered:
    return register(str(tracked.output), name=NAME)


def test_a_run_is_tracked_as_a_whole(site: Site, tracked: FinishedRun) -> None:
    """By the driver and by the recorder's process, which Ray has started without credentials."""
    run_id = tracked.trained.mlflow_run_id
    assert run_id is not None
    assert "tracking:" not in tracked.shown, tracked.shown
    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert run.data.params["tracking.uri"] == site.uri
    assert set(points(site.uri, run_id, "train/loss")) == set(range(1, tracked.trained.steps + 1))
    assert {file.path for file in client.list_artifacts(run_id)} >= {"config.yaml", "curves", "manifest.json"}


def test_it_is_registered_and_found_again(registered: Registered, tracked: FinishedRun, suite: Path) -> None:
    import mlflow

    assert registered.promoted, registered.decision.reason
    champion = f"models:/{NAME}@champion"
    folder, export = version_folder(champion), Path(tracked.trained.export)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "crlft.json"):
        assert (folder / name).read_bytes() == (export / name).read_bytes()
    mlflow.set_tracking_uri(tracked.trained.tracking_uri)
    messages = [{"role": "user", "content": "3-1 the river"}]
    answer = mlflow.pyfunc.load_model(champion).predict({"messages": messages, "max_tokens": 12})
    assert answer[0]["choices"][0]["message"]["content"]


def test_the_cluster_asks_a_champion_by_its_name(registered: Registered, suite: Path, tmp_path: Path) -> None:
    """Its workers were started without credentials, too."""
    asked = load_suite(str(suite), limit=1)
    (found,) = score_models([f"models:/{NAME}@champion"], [asked], Place.of(tmp_path))
    assert len(found[asked.name].answers) == 1


def test_two_at_once(site: Site, tracked: FinishedRun, shorter: FinishedRun, registered: Registered) -> None:
    """In whichever order they come, both have a version, and the later one is compared with the earlier one."""
    name, client = "contested", MlflowClient()
    client.create_registered_model(name)
    # One before them that is still undecided: both come to wait for it, and go on at the same moment.
    source = client.get_model_version(NAME, registered.version).source
    model_id = source.removeprefix("models:/")
    first = client.create_model_version(name, source, model_id=model_id, tags={GATE: PENDING}).version
    with turn(client, name, first):
        task = ray.remote(num_cpus=0)(_register)
        tasks = [task.remote(str(run.output), name, mlflow_environment()) for run in (tracked, shorter)]
        until(lambda: len(_gates(client, name)) == 3 or ray.wait(tasks, timeout=0)[0], 120)
        assert set(_gates(client, name).values()) == {PENDING}
        assert "champion" not in client.get_registered_model(name).aliases
        client.set_model_version_tag(name, first, GATE, "refused")
    found = ray.get(tasks, timeout=120)
    assert len({process for process, _ in found}) == 2
    early, late = sorted((registered for _, registered in found), key=lambda registered: int(registered.version))
    assert [early.version, late.version] == ["2", "3"]
    assert early.promoted, early.decision.reason
    assert "there was no champion" in early.decision.reason
    # Both answer every question rightly, and who is not below the champion takes its place.
    assert late.promoted, late.decision.reason
    assert late.decision.versus_champion is not None, "it has seen what the other one did"
    assert late.decision.versus_champion.difference == 0
    assert client.get_registered_model(name).aliases == {"champion": "3"}
    assert _gates(client, name) == {"1": "refused", "2": "passed", "3": "passed"}


def _register(output: str, name: str, environment: dict[str, str]) -> tuple[int, Registered]:
    os.environ.update(environment)
    return os.getpid(), register(output, name=name)


def _gates(client: MlflowClient, name: str) -> dict[str, Any]:
    return {str(found.version): found.tags[GATE] for found in client.search_model_versions(f"name = '{name}'")}


def test_who_may_not_is_told_so_once(
    site: Site, tracked: FinishedRun, registered: Registered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.become("guest", monkeypatch)
    for outcome in _all_commands(tracked):
        outcome.refuses(f"MLflow at {site.uri} denies access (mlflow/", "this user lacks the permission")
        assert not site.reveals(outcome.err)
    site.become("keeper", monkeypatch)
    users = get_app_client("basic-auth", site.uri)
    users.grant_user_permission("guest", "registered_model", NAME, "READ")
    # The model now, but not the run that its files belong to; they are in this machine's cache already.
    site.become("guest", monkeypatch)
    monkeypatch.setenv("CRLFT_CACHE", str(tmp_path))
    crlft("chat", f"models:/{NAME}@champion", "--message", "hi").refuses("denies access", "lacks the permission")


def test_a_wrong_password_is_told_once(
    site: Site, tracked: FinishedRun, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = secrets.token_urlsafe(18)
    site.become("trainer", monkeypatch, wrong)
    for outcome in _all_commands(tracked):
        outcome.refuses(
            f"MLflow at {site.uri} does not accept the user name and password",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
        assert wrong not in outcome.err
        assert not site.reveals(outcome.err)


def _all_commands(run: FinishedRun) -> list[Outcome]:
    return [
        crlft("train", run.config_file),
        crlft("register", run.output, "--name", NAME),
        crlft("chat", f"models:/{NAME}@champion", "--message", "hi"),
    ]


def test_no_password_is_kept_anywhere(site: Site, tracked: FinishedRun, registered: Registered) -> None:
    assert site.reveals(f"x {site.passwords['trainer']}"), "the search finds what it looks for"
    client = MlflowClient()
    run = client.get_run(str(tracked.trained.mlflow_run_id))
    version = client.get_model_version(NAME, registered.version)
    for content in (str(run.to_dictionary()), str(dict(version)), tracked.shown, registered.text()):
        assert not site.reveals(content)
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    for folder in (tracked.output, site.server.folder / "artifacts", logs):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if site.reveals(path.read_bytes())] == []
