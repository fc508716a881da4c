"""From files to shards, on a real Ray cluster: what goes in comes out once, tagged and counted."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pytest

from crlft_ray.conversations import Conversation, Turn
from crlft_ray.shards.manifest import read_tokenizer
from crlft_ray.shards.shard import SCHEMA
from crlft_ray.storage import Place
from crlft_ray.templates import encode
from tests.shards.making import contents, prepared, rated, read_heldout, read_packs
from tests.synthetic import rows, write_conversations

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

PREPARE = """
import json, sys
import ray
ray.init(num_cpus=int(sys.argv[1]), include_dashboard=False)
from pathlib import Path
from tests.shards.making import prepared, rated
model, data, output = map(Path, sys.argv[2:5])
sources = [rated(data / "one.jsonl"), rated(data / "two.jsonl.gz", repeat=2), rated(data / "one.jsonl", sample=0.5)]
manifest = prepared(model, output, sources, holdout=0.05).manifest
print(json.dumps([manifest.fingerprint, len(manifest.shards), manifest.counts["duplicates"]]))
"""


def test_one_and_four_cpus_make_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    write_conversations(tmp_path / "one.jsonl", 800, seed=1)
    two = write_conversations(tmp_path / "two.jsonl", 400, seed=2)
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(two.read_bytes(), mtime=0))
    reports, made = [], []
    for cpus in ("1", "4"):
        output = tmp_path / cpus
        command = [sys.executable, "-c", PREPARE, cpus, str(tiny_model), str(tmp_path), str(output)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        reports.append(done.stdout.splitlines()[-1])
        made.append(contents(output / "shards"))
    assert reports[0] == reports[1]
    assert made[0] == made[1]
    _, shards, duplicates = json.loads(reports[0])
    assert shards > 3
    assert duplicates > 300


@pytest.fixture(scope="module")
def mixture(
    tiny_model: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[bytes, Any], Any]:
    """Shards of 500 conversations with some that are bad, and by content hash what each one must be."""
    folder = tmp_path_factory.mktemp("mixture")
    good = list(rows(500))
    bad: list[Any] = [
        {"messages": [{"role": "user", "content": "only a question"}], "rating": 5},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "rating": 5},
        {"messages": good[0]["messages"], "rating": 2},
        {"messages": "no list", "rating": 5},
        {"messages": good[1]["messages"]},
    ]
    lines = [json.dumps(row) for row in [*good, *bad]]
    lines.insert(100, "this is no JSON")
    lines.insert(50, "")
    (folder / "rows.jsonl").write_text("\n".join(lines))
    result = prepared(tiny_model, folder / "out", [rated(folder / "rows.jsonl")], holdout=0.1, context=128)
    known = {}
    for row in good:
        messages = [(m["role"], m["content"]) for m in row["messages"]]
        system = messages.pop(0)[1] if messages[0][0] == "system" else ""
        chat = Conversation("expert" if row["rating"] >= 8 else "mixed", system, tuple(Turn(*m) for m in messages))
        known[chat.id] = chat
    return known, result


def test_everything_is_counted_once(mixture: tuple[dict[bytes, Any], Any]) -> None:
    _, result = mixture
    counts = copy.deepcopy(result.manifest.counts)
    assert counts["rows"] == 506
    assert counts["rejected"] == 3
    nothing_learned = counts["cleaned"].pop("nothing_learned_in_context")
    assert nothing_learned > 0
    assert counts["cleaned"] == {"empty": 1, "short": 1}
    assert counts["duplicates"] == 1
    assert counts["held_out"] == sum(c.held_out for c in result.manifest.classes)
    kept = sum(c.conversations for c in result.manifest.classes)
    assert kept + counts["held_out"] + nothing_learned == 500
    assert 20 < counts["held_out"] < 80


def test_rejected_rows_are_kept_with_their_place_and_reason(mixture: tuple[dict[bytes, Any], Any]) -> None:
    _, result = mixture
    lines = (Path(result.folder) / "rejected.jsonl").read_text().splitlines()
    found = {row["line"]: row["reason"] for row in map(json.loads, lines)}
    assert {row["file"] for row in map(json.loads, lines)} == {str(Path(result.folder).parents[1] / "rows.jsonl")}
    assert found[102].startswith("is not valid JSON")
    assert found[506] == "'messages' is text, not a list"
    assert found[507] == "has no field 'rating' to take its class from"
    assert len(found) == 3


def test_shards_hold_what_the_template_says(mixture: tuple[dict[bytes, Any], Any]) -> None:
    known, result = mixture
    manifest, tokenizer = result.manifest, read_tokenizer(Place.of(result.folder))
    names = [counts.name for counts in manifest.classes]
    held_out = {bytes.fromhex(row["id"]) for row in read_heldout(result.folder)}
    packs = read_packs(result.folder, manifest)
    found = [row for pack in packs for row in pack]
    ids = [row["id"] for row in found]
    assert len(set(ids)) == len(ids)
    assert not held_out & set(ids)
    for id in known.keys() - held_out - set(ids):
        (missing,) = encode(tokenizer, [known[id]], ["GPT3"], 128)
        assert not missing.spans, "only those are missing of which nothing would be learned"
    truncated = 0
    for row in found:
        chat = known[row["id"]]
        assert names[row["class"]] == chat.class_name
        condition = {"expert": "GPT4", "mixed": "GPT3"}[chat.class_name]
        (expected,) = encode(tokenizer, [chat], [condition], 128)
        assert row["input_ids"] == expected.input_ids_T.tolist()
        assert [(s["start"], s["end"], s["weight"]) for s in row["learn"]] == expected.spans
        truncated += expected.truncated
    assert manifest.counts["truncated"] == truncated > 0


def test_the_manifest_says_what_the_shards_are(mixture: tuple[dict[bytes, Any], Any]) -> None:
    _, result = mixture
    manifest = result.manifest
    packs = read_packs(result.folder, manifest)
    sizes = [sum(len(row["input_ids"]) for row in pack) for pack in packs]
    assert len(manifest.shards) > 1
    assert max(sizes) <= manifest.pack_tokens == 512
    assert (manifest.packs, manifest.tokens) == (len(packs), sum(sizes))
    assert manifest.fill == pytest.approx(sum(sizes) / (len(packs) * 512))
    rows_ = [row for pack in packs for row in pack]
    for number, counts in enumerate(manifest.classes):
        of_class = [row for row in rows_ if row["class"] == number]
        assert counts.conversations == len(of_class)
        assert counts.tokens == sum(len(row["input_ids"]) for row in of_class)
        assert counts.learned_tokens == sum(s["end"] - s["start"] for row in of_class for s in row["learn"])
    for shard in manifest.shards:
        content = (Path(result.folder) / shard.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard.sha256
    schema = pa.ipc.open_file(str(Path(result.folder) / manifest.shards[0].file)).schema
    assert schema.equals(SCHEMA)


def test_held_out_conversations_are_whole(mixture: tuple[dict[bytes, Any], Any]) -> None:
    known, result = mixture
    for row in read_heldout(result.folder):
        chat = known[bytes.fromhex(row["id"])]
        assert (row["class"], row["system"]) == (chat.class_name, chat.system)
        assert [(turn["role"], turn["content"]) for turn in row["turns"]] == [turn[:2] for turn in chat.turns]


def test_duplicates_keep_their_first_source(tiny_model: Path, tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "rows.jsonl", 60)
    first, second = {"path": str(data), "class": "expert"}, {"path": str(data), "class": "mixed"}
    other = {"path": str(write_conversations(tmp_path / "other.jsonl", 10, seed=9)), "class": "mixed"}
    result = prepared(tiny_model, tmp_path / "out", [first, second, other], holdout=0)
    assert [counts.conversations for counts in result.manifest.classes] == [60, 10]
    assert result.manifest.counts["duplicates"] == 60


def test_repeat_sample_and_holdout(tiny_model: Path, tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "rows.jsonl", 300)
    other = write_conversations(tmp_path / "other.jsonl", 20, seed=9)

    def ids(name: str, sample: float, holdout: float, repeat: int) -> tuple[list[bytes], set[str]]:
        sources: list[dict[str, Any]] = [
            {"path": str(data), "class": "expert", "sample": sample, "repeat": repeat},
            {"path": str(other), "class": "mixed"},
        ]
        result = prepared(tiny_model, tmp_path / name, sources, holdout=holdout)
        packs = read_packs(result.folder, result.manifest)
        assert (
            result.manifest.counts["not_sampled"]
            + result.manifest.counts["held_out"]
            + len({row["id"] for pack in packs for row in pack})
            == 320
        )
        assert all(len({row["id"] for row in pack}) == len(pack) for pack in packs), "a pack holds one twice"
        return [r["id"] for p in packs for r in p if r["class"] == 0], {r["id"] for r in read_heldout(result.folder)}

    everything, none = ids("all", 1.0, 0.0, 1)
    assert len(everything) == len(set(everything)) == 300
    assert not none
    half, _ = ids("half", 0.5, 0.0, 3)
    assert 110 < len(set(half)) < 190
    assert sorted(half) == sorted([*set(half)] * 3)
    assert set(half) < set(everything)
    fewer, held_out = ids("held-out", 1.0, 0.2, 1)
    assert {id.hex() for id in set(everything) - set(fewer)} <= held_out
    more, held_out_more = ids("held-out-more", 1.0, 0.3, 1)
    assert set(more) < set(fewer)
    assert held_out < held_out_more, "a larger share holds out the same conversations and more"
