"""Registrations of one model take turns, in the order of their version numbers.

The registry gives out version numbers one by one, so they are tickets: whoever has a lower one decides first, and
whoever comes later compares itself with the champion that then is. A registration whose heartbeat stands still is
given up by those that wait for it, and can no longer win.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crlft_ray.errors import TrainingFailed

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

GATE = "crlft.gate"
BEAT = "crlft.gate_beat"
PENDING, ABANDONED = "pending", "abandoned"
_BEAT_S = 3.0
SILENT_S = 30.0
"""A registration that has not beaten for so long is dead."""


@contextmanager
def turn(client: MlflowClient, name: str, version: str, silent_s: float = SILENT_S) -> Iterator[None]:
    """Waits until every lower version of `name` is decided; `version` must be tagged as pending.

    Raises:
        TrainingFailed: this registration was taken for dead meanwhile.
    """
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(client, name, version, done), daemon=True, name="crlft-turn")
    thread.start()
    try:
        _wait(client, name, version, silent_s)
        yield
    finally:
        done.set()
        thread.join()


def check_turn(client: MlflowClient, name: str, version: str) -> None:
    """To be called before the alias is moved.

    Raises:
        TrainingFailed: another registration has given this one up.
    """
    if client.get_model_version(name, version).tags.get(GATE) != PENDING:
        raise TrainingFailed(
            f"version {version} of {name} was silent for too long and was taken for dead; register it again"
        )


def _wait(client: MlflowClient, name: str, version: str, silent_s: float) -> None:
    seen: dict[str, tuple[str | None, float]] = {}
    said = False
    while before := _pending_before(client, name, version):
        if not said:
            said = True
            log.info("waiting for version %s of %s, which is being registered", ", ".join(before), name)
        for other, beat in before.items():
            now = time.monotonic()
            if other not in seen or seen[other][0] != beat:
                seen[other] = beat, now
            elif now - seen[other][1] > silent_s:
                log.warning("version %s of %s was left behind by a registration that died", other, name)
                client.set_model_version_tag(name, other, GATE, ABANDONED)
        time.sleep(0.5)


def _pending_before(client: MlflowClient, name: str, version: str) -> dict[str, str | None]:
    """Undecided lower versions, and their heartbeats."""
    found = {}
    for other in client.search_model_versions(f"name = '{name}'"):
        if other.tags.get(GATE) == PENDING and int(other.version) < int(version):
            found[str(other.version)] = other.tags.get(BEAT)
    return found


def _beat(client: MlflowClient, name: str, version: str, done: threading.Event) -> None:
    count = 0
    while not done.wait(_BEAT_S):
        count += 1
        try:
            client.set_model_version_tag(name, version, BEAT, str(count))
        except Exception as error:
            # Of any kind: a server that is away for a moment must not end the heart.
            log.debug("heartbeat of %s %s: %s", name, version, error)
