"""The channel beside a training."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from crlft_ray.training.tracked import Tracked
from tests.runs import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

_PART = 16 << 20


def test_credentials_are_not_in_the_clusters_tables(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may lie in a Redis, and on its disk. What an actor is made with does, as the first one here shows."""
    shown, kept = secrets.token_hex(16), secrets.token_hex(16)
    actor: Any = ray.remote(num_cpus=0)(_Holder)
    holder = actor.remote(shown)
    assert ray.get(holder.word.remote()) == shown
    assert _in_tables(shown)

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", kept)
    config = finished.config.model_copy(update={"output": str(tmp_path / "out")})
    tracked = Tracked(config, finished.manifest, None, None)
    try:
        ray.get(tracked.channel.latest.remote())
        assert not _in_tables(kept)
    finally:
        ray.kill(tracked.channel)


class _Holder:
    def __init__(self, word: str) -> None:
        self._word = word

    def word(self) -> str:
        return self._word


def _in_tables(word: str) -> bool:
    """Whether the process that keeps the tables has it in its memory."""
    (tables,) = [child for child in psutil.Process().children(recursive=True) if child.name() == "gcs_server"]
    process = Path("/proc") / str(tables.pid)
    wanted = word.encode()
    with (process / "mem").open("rb", buffering=0) as memory:
        for line in (process / "maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None:
                continue
            place, end = (int(edge, 16) for edge in found.groups())
            while place < end:
                memory.seek(place)
                if wanted in memory.read(min(_PART + len(wanted), end - place)):
                    return True
                place += _PART
    return False
