"""A second `prepare`, changed input, and everything that stops one: what was there stays as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import read_manifest
from crlft_ray.shards.prepare import Prepared, prepare
from crlft_ray.shards.verify import VERIFIED, verify_shards
from crlft_ray.storage import Place
from tests.shards.making import SMALL, config_of, contents, prepared, rated
from tests.synthetic import raw_config, write_conversations

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_conversations(tmp_path / "rows.jsonl", 200)


@pytest.fixture
def made(tiny_model: Path, data: Path, tmp_path: Path) -> Prepared:
    result = prepared(tiny_model, tmp_path / "out", [rated(data)])
    assert not result.unchanged
    return result


def test_the_second_time_nothing_is_done(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(made.folder).iterdir()}
    again = prepared(tiny_model, tmp_path / "out", [rated(data)])
    assert again.unchanged
    assert again.manifest == made.manifest
    assert before == {path: path.stat().st_mtime_ns for path in Path(made.folder).iterdir()}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards"]


def test_weights_are_not_in_the_shards(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    def run(given: dict[str, Any], **sections: Any) -> Prepared:
        raw = raw_config(tiny_model, tmp_path / "out", data, classes=given, **sections)
        return prepare(validate(raw, "test"))

    def classes(key: str, expert: float, mixed: float, conditions: str = "GPT4 GPT3") -> dict[str, Any]:
        one, other = conditions.split()
        return {"expert": {"condition": one, key: expert}, "mixed": {"condition": other, key: mixed}}

    assert run(classes("weight", 3, 0), train={"workers": 2, "seed": 5}).unchanged
    assert run(classes("reward", 1, 0), beta=0.5, infer_as="mixed").unchanged
    changed = run(classes("weight", 1, 0.1, "A B"))
    assert not changed.unchanged
    assert changed.manifest.fingerprint != made.manifest.fingerprint


def test_the_fingerprint_is_that_of_the_contents(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Not of names, places and times."""
    copy = tmp_path / "elsewhere" / "copy.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(data.read_bytes())
    os.utime(copy, (1, 1))
    other = prepared(tiny_model, tmp_path / "other", [rated(copy)])
    assert other.manifest.fingerprint == made.manifest.fingerprint


def test_changed_input_is_prepared_again(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    write_conversations(data, 201)
    more = prepared(tiny_model, tmp_path / "out", [rated(data)])
    assert not more.unchanged
    assert more.manifest.counts["rows"] == 201
    assert more.manifest.fingerprint != made.manifest.fingerprint
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards"]
    assert not prepared(tiny_model, tmp_path / "out", [rated(data)], context=128).unchanged
    assert not prepared(tiny_model, tmp_path / "out", [rated(data)], holdout=0.5).unchanged


def test_too_many_bad_rows_stop_it(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    before = contents(made.folder)
    lines = data.read_text().splitlines()
    lines[7], lines[150] = "{broken", json.dumps({"messages": []})
    data.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        prepared(tiny_model, tmp_path / "out", [rated(data)], max_rejected=0.005)
    message = str(caught.value)
    assert "2 of 200 rows cannot be used, more than data.max_rejected = 0.005 allows" in message
    assert f"{data}, line 8: is not valid JSON" in message
    assert f"{data}, line 151: has no field 'rating'" in message
    assert contents(made.folder) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rejected.jsonl", "shards"]
    assert [json.loads(line)["line"] for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()] == [8, 151]

    assert not prepared(tiny_model, tmp_path / "out", [rated(data)], max_rejected=0.01).unchanged
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.json", b'[{"messages": []}, {]', "not valid JSON: item 2"),
        ("rows.parquet", b"PAR1 nonsense", "damaged parquet file"),
        ("rows.jsonl.gz", b"nonsense", "damaged jsonl file"),
        ("rows.jsonl", b"\n\n\n", "classes.expert: no conversation of this class is left to train on"),
    ],
)
def test_input_that_cannot_be_used(
    made: Prepared, tiny_model: Path, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    before = contents(made.folder)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        prepared(tiny_model, tmp_path / "out", [rated(tmp_path / name)])
    assert contents(made.folder) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards"]


def test_shards_that_a_run_goes_on_with_are_not_replaced(
    made: Prepared, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    fingerprint = made.manifest.fingerprint
    config = config_of(tiny_model, tmp_path / "out", [rated(data)])
    os.utime(data)
    touched = prepare(config, SMALL, needed=fingerprint)
    assert (touched.unchanged, touched.manifest.fingerprint) == (False, fingerprint)
    before = contents(made.folder)
    write_conversations(data, 220)
    with pytest.raises(UserError, match=rf"run on other data \({fingerprint[:12]}, now .*left as they are.*--fresh"):
        prepare(config, SMALL, needed=fingerprint)
    assert contents(made.folder) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards"]
    # Nobody needs these: a run on other shards could not go on anyway.
    assert prepare(config, SMALL, needed="0" * 64).manifest.fingerprint != fingerprint


def test_what_was_verified_is_read_again_only_if_it_has_changed(made: Prepared, tmp_path: Path) -> None:
    folder, remembered = Place.of(made.folder), Place.of(tmp_path / VERIFIED)
    verify_shards(folder, made.manifest, remembered)
    file = Path(made.folder) / made.manifest.shards[1].file
    whole, times = file.read_bytes(), file.stat()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    # To the byte as long and to the nanosecond as old: only reading it would tell.
    verify_shards(folder, made.manifest, remembered)

    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    for _ in range(2):
        with pytest.raises(UserError, match=f"{file.name}: this shard is damaged"):
            verify_shards(folder, made.manifest, remembered)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / VERIFIED).write_text("{")
    with pytest.raises(UserError, match=f"{file.name}: this shard is damaged"):
        verify_shards(folder, made.manifest, remembered)
    file.write_bytes(whole)
    verify_shards(folder, made.manifest, remembered)


def test_shards_that_are_missing_or_damaged(made: Prepared, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    folder = Place.of(made.folder)
    verify_shards(folder, made.manifest)
    whole = contents(made.folder)
    file = Path(made.folder) / made.manifest.shards[1].file
    damaged = bytearray(whole[file.name])
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=f"{file.name}: this shard is damaged"):
        verify_shards(folder, made.manifest)
    file.unlink()
    with pytest.raises(UserError, match=f"{file.name}: this shard cannot be read"):
        verify_shards(folder, made.manifest)
    with pytest.raises(UserError, match=f"{file.name}: this shard is missing"):
        read_manifest(folder)

    mended = prepared(tiny_model, tmp_path / "out", [rated(data)])
    assert not mended.unchanged
    assert contents(made.folder) == whole


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "damaged manifest"), ("{}", "damaged manifest"), (None, "no shards here")],
)
def test_a_manifest_that_cannot_be_read(
    made: Prepared, tiny_model: Path, data: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    manifest = Path(made.folder) / "manifest.json"
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    with pytest.raises(UserError, match=says):
        read_manifest(Place.of(made.folder))
    assert prepared(tiny_model, tmp_path / "out", [rated(data)]).manifest == made.manifest


def test_shards_of_another_format_version(made: Prepared) -> None:
    path = Path(made.folder) / "manifest.json"
    raw = json.loads(path.read_text())
    raw["settings"]["format_version"] = 99
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="format version 99"):
        read_manifest(Place.of(made.folder))
