"""Registrations take turns: two at once decide one after the other, and a dead one stops nobody."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from crlft_ray.errors import TrainingFailed
from crlft_ray.registry.turns import ABANDONED, BEAT, GATE, PENDING, check_turn, turn

pytestmark = pytest.mark.slow


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model("m")
    return client


def _version(client: MlflowClient, gate: str = PENDING) -> str:
    return str(client.create_model_version("m", source="/nowhere", tags={GATE: gate}).version)


def test_two_at_once_decide_one_after_the_other(client: MlflowClient) -> None:
    """Each takes the alias if its number is not below the champion's; the lower ticket decides first."""
    order: list[str] = []
    champions: list[int | None] = []
    versions = [_version(client) for _ in range(3)]

    def registration(version: str) -> None:
        with turn(client, "m", version):
            order.append(version)
            champions.append(client.get_registered_model("m").aliases.get("champion"))
            time.sleep(0.3)
            check_turn(client, "m", version)
            client.set_registered_model_alias("m", "champion", version)
            client.set_model_version_tag("m", version, GATE, "passed")

    threads = [threading.Thread(target=registration, args=(version,)) for version in reversed(versions)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(60)
    assert order == versions
    assert champions == [None, int(versions[0]), int(versions[1])], "each sees the champion that then is"


def test_a_dead_registration_stops_nobody_and_cannot_win_later(client: MlflowClient) -> None:
    dead, alive = _version(client), _version(client)
    began = time.monotonic()
    with turn(client, "m", alive, silent_s=2.0):
        assert 2.0 < time.monotonic() - began < 30
    assert client.get_model_version("m", dead).tags[GATE] == ABANDONED
    with pytest.raises(TrainingFailed, match="taken for dead"):
        check_turn(client, "m", dead)
    check_turn(client, "m", alive)


def test_one_that_beats_is_waited_for(client: MlflowClient) -> None:
    slow, waiting = _version(client), _version(client)
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(0.3):
            count += 1
            client.set_model_version_tag("m", slow, BEAT, str(count))

    heart = threading.Thread(target=beat)
    heart.start()
    threading.Timer(5.0, lambda: client.set_model_version_tag("m", slow, GATE, "refused")).start()
    began = time.monotonic()
    with turn(client, "m", waiting, silent_s=2.0):
        waited = time.monotonic() - began
    stop.set()
    heart.join()
    assert waited > 4.5
    assert client.get_model_version("m", slow).tags[GATE] == "refused"


def test_versions_of_others_are_no_matter(client: MlflowClient) -> None:
    client.create_model_version("m", source="/nowhere")
    _version(client, "passed")
    began = time.monotonic()
    with turn(client, "m", _version(client)):
        assert time.monotonic() - began < 20
