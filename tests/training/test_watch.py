"""A collective that waits too long says who is missing, and where they are."""

from __future__ import annotations

import json
import re
import socket

import pytest
from torch.distributed import TCPStore

from crlft_ray.training.watch import Watch
from tests.training.ranks import run_ranks
from tests.training.waiting import TIMEOUT_S, wait_in_vain

Said = dict[str, list[str]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = tmp_path_factory.mktemp("waiting")
    run_ranks(2, folder, wait_in_vain, str(folder / "said.json"))
    result: Said = json.loads((folder / "said.json").read_text())
    return result


@pytest.mark.slow
def test_a_rank_that_is_a_step_behind_is_named(said: Said) -> None:
    kind, message, printed, _ = said["a step behind"]
    assert kind == "RankMissing"
    assert re.match(r"a collective waited \d+ s: ", message)
    assert message.endswith("rank 1 (step 6, its beginning) did not come; rank 0 waits at step 7")
    assert re.fullmatch(r"crlft: waiting for \d+ s: rank 1 \(step 6, .*\n", printed), "said even before the time-out"


@pytest.mark.slow
def test_a_rank_that_is_behind_inside_a_step_is_named(said: Said) -> None:
    kind, message, *_ = said["behind inside a step"]
    assert kind == "RankMissing"
    assert message.endswith("rank 1 (step 6, its beginning) did not come; rank 0 waits at step 6")


@pytest.mark.slow
def test_where_nobody_is_behind_no_rank_is_blamed(said: Said) -> None:
    kind, message, *_ = said["nobody is behind"]
    assert kind == "RankMissing"
    assert "all ranks are at step 6, sum of weights" in message
    assert "did not come" not in message


@pytest.mark.slow
def test_other_errors_stay_what_they_are(said: Said) -> None:
    assert said["another error"][:2] == ["ValueError", "not a collective's"]
    assert said["no memory"][:2] == ["OutOfMemoryError", "none is left"], "it may well come late"
    assert said["a quick error"][:3] == ["RuntimeError", "at once", ""]
    assert TIMEOUT_S > 1, "or an error could not be quick"


def test_when_the_keeper_of_positions_is_gone_that_is_said() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keeper = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    watch = Watch(TCPStore("127.0.0.1", port, is_master=False), 1, 2, 60)
    watch.begin_step(3)
    del keeper
    assert watch.missing() == "rank 0, which keeps all positions, is gone; rank 1 waits at step 3"
