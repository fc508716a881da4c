from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crlft_ray.tracking import Record, read_records
from crlft_ray.tracking.spool import Spool


def _steps(path: Path) -> list[tuple[int, dict[str, float]]]:
    return [(record.step, record.metrics) for record in read_records(path)]


def test_what_is_appended_is_read_back_while_the_spool_is_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "m.jsonl")
    record = Record(3, 1_700_000_000_123, {"train/loss": 0.1 + 0.2, "a": math.inf, "b": -math.inf})
    spool.append(record)
    assert read_records(spool.path) == [record]
    spool.append(Record(4, 1, {"train/loss": math.nan}))
    assert math.isnan(read_records(spool.path)[1].metrics["train/loss"])
    assert spool.size == spool.path.stat().st_size
    for line in spool.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_value_is_kept_once_per_name_and_step_also_after_reopening(tmp_path: Path) -> None:
    for _ in range(2):
        spool = Spool(tmp_path / "m.jsonl")
        spool.append(Record(1, 1, {"a": 1.0}))
        spool.append(Record(1, 2, {"a": 2.0, "b": 3.0}))
        spool.close()
    assert _steps(spool.path) == [(1, {"a": 1.0}), (1, {"b": 3.0})]


def test_half_a_line_is_ignored_by_readers_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "m.jsonl")
    spool.append(Record(1, 1, {"a": 1.0}))
    spool.close()
    whole = spool.path.read_bytes()
    for cut in range(1, len(whole)):
        spool.path.write_bytes(whole + whole[:cut])
        assert _steps(spool.path) == [(1, {"a": 1.0})]
        again = Spool(spool.path)
        again.append(Record(2, 1, {"a": 2.0}))
        again.close()
        assert _steps(spool.path) == [(1, {"a": 1.0}), (2, {"a": 2.0})]


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "m.jsonl")
    for step in range(3):
        spool.append(Record(step, 1, {"a": 1.0}))
    spool.close()
    lines = spool.path.read_bytes().splitlines(keepends=True)
    for damage in (b"\xff\x00\n", b"[]\n", b"{}\n", b'{"step": 1, "time_ms": 1, "metrics": {"a": "x"}}\n', b"\n"):
        spool.path.write_bytes(lines[0] + damage + lines[2])
        assert [step for step, _ in _steps(spool.path)] == [0, 2]
        assert Spool(spool.path).damaged == 1


def test_a_rewind_takes_back_later_training_records_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "m.jsonl")
    for step in range(1, 6):
        spool.append(Record(step, 1, {"a": step}))
        spool.append(Record(step, 1, {"system/cpu": 50.0}))
    assert spool.rewind(3)
    spool.append(Record(4, 1, {"a": 40.0}))
    expected = [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 3}), (4, {"a": 40.0})]
    assert _steps(spool.path) == expected
    assert spool.append(Record(5, 1, {"system/cpu": 1.0})) == 0
    again = Spool(spool.path)
    assert again.append(Record(4, 1, {"a": 41.0})) == 0
    assert again.next_system_step == 6
    assert [record.step for _, record in again.read() if record.system] == [1, 2, 3, 4, 5]
    assert _steps(spool.path) == expected
    assert not again.rewind(4)


def test_the_sent_position_belongs_to_one_run_and_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "m.jsonl")
    spool.append(Record(1, 1, {"a": 1.0}))
    assert spool.sent("r") == 0
    spool.mark_sent("r", spool.size)
    assert (spool.sent("r"), spool.sent("other")) == (spool.size, 0)
    spool.close()
    spool.path.unlink()
    again = Spool(spool.path)
    again.append(Record(1, 1, {"a": 1.0}))
    assert again.size == spool.size
    assert again.sent("r") == 0
    (tmp_path / "m.sent.json").write_text("{")
    assert Spool(spool.path).sent("r") == 0


_WRITER = """
import resource, sys
from pathlib import Path
from crlft_ray.tracking.spool import Record, Spool
spool = Spool(Path(sys.argv[1]))
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for step in range(10**9):
    try:
        spool.append(Record(step, 1, {"train/loss": 1.0}))
    except OSError:
        size = Path(sys.argv[1]).stat().st_size
        print(step, size == spool.size, flush=True)
        break
    if step == 1000:
        print("going", flush=True)
"""


def test_a_killed_writer_leaves_every_step_that_it_appended(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"going\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    steps = [step for step, _ in _steps(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 1000


def test_a_write_that_does_not_fit_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _WRITER, str(path), "1000"], capture_output=True, text=True, check=True
    )
    steps = [step for step, _ in _steps(path)]
    assert done.stdout.split() == [str(len(steps)), "True"]
    assert path.read_bytes().endswith(b"\n")
