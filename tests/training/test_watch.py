"""A collective that waits too long says who is missing, and where they are."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import time

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


def test_of_all_ranks_that_wait_one_tells_the_person_who_watches() -> None:
    """Three of four come to the next step; the printed lines of all of them stay where they are."""
    keeper, port = _keeper()
    lines: list[str] = []
    watches = [Watch(_client(port), rank, 4, 0.4, lines.append) for rank in range(4)]
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(io.StringIO()) as printed:
        for watch in watches[:3]:
            stack.enter_context(watch)
        for step in (6, 7):
            for watch in watches[:3]:
                watch.begin_step(step)
            _told(printed, f"waits at step {step}", 3, lines, step - 5)
    assert len(lines) == 2
    for step, line in zip((6, 7), lines, strict=True):
        pattern = rf"WARNING: waiting for \d+ s: rank 3 \(step 0, start\) did not come; rank [012] waits at step {step}"
        assert re.fullmatch(pattern, line), line
    del keeper


def test_when_the_keeper_of_positions_is_gone_one_rank_says_so() -> None:
    keeper, port = _keeper()
    lines: list[str] = []
    watches = [Watch(_client(port), rank, 3, 0.4, lines.append) for rank in (1, 2)]
    del keeper
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(io.StringIO()) as printed:
        for watch in watches:
            stack.enter_context(watch)
        _told(printed, "is gone", 2, lines, 1)
    assert len(lines) == 1
    assert "rank 0, which keeps all positions, is gone; rank 1 waits" in lines[0]


def _told(printed: io.StringIO, text: str, ranks: int, lines: list[str], count: int) -> None:
    """Waits until so many ranks have printed the text, and one has said its line."""
    deadline = time.monotonic() + 60
    while printed.getvalue().count(text) < ranks or len(lines) < count:
        assert time.monotonic() < deadline, (printed.getvalue(), lines)
        time.sleep(0.05)


def _keeper() -> tuple[TCPStore, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False), port


def _client(port: int) -> TCPStore:
    return TCPStore("127.0.0.1", port, is_master=False)


def test_when_the_keeper_of_positions_is_gone_that_is_said() -> None:
    keeper, port = _keeper()
    watch = Watch(_client(port), 1, 2, 60)
    watch.begin_step(3)
    del keeper
    assert watch.missing() == "rank 0, which keeps all positions, is gone; rank 1 waits at step 3"
