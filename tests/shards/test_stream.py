"""The stream gives each rank its packs, in order, as they lie in the shards: from anywhere, wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crlft_ray.errors import UserError
from crlft_ray.shards.manifest import Manifest
from crlft_ray.shards.order import Order
from crlft_ray.shards.prepare import Prepared
from crlft_ray.shards.shard import Pack
from crlft_ray.shards.stream import PackReader, stream
from crlft_ray.shards.verify import verify_shards
from crlft_ray.storage import Place
from tests.shards.making import prepared, rated, read_packs
from tests.synthetic import write_conversations

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(scope="module")
def made(tiny_model: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("stream")
    data = write_conversations(folder / "rows.jsonl", 700)
    return prepared(tiny_model, folder / "out", [rated(data, message_weights="keep")])


def order_of(manifest: Manifest, packs_per_step: int = 5) -> Order:
    return Order(manifest.packs, packs_per_step, manifest.fingerprint, seed=3)


def same(pack: Pack, rows: list[dict[str, Any]]) -> bool:
    """Whether a pack is these rows, end to end."""
    ids = [row["input_ids"] for row in rows]
    starts = np.cumsum([0, *map(len, ids)])
    spans = [
        (starts[number] + span["start"], starts[number] + span["end"], span["weight"], number)
        for number, row in enumerate(rows)
        for span in row["learn"]
    ]
    found = zip(pack.starts_S, pack.ends_S, pack.weights_S, pack.span_conversations_S, strict=True)
    return (
        pack.input_ids_T.tolist() == [id for each in ids for id in each]
        and pack.lengths_C.tolist() == [len(each) for each in ids]
        and pack.classes_C.tolist() == [row["class"] for row in rows]
        and [(int(a), int(b), float(w), int(c)) for a, b, w, c in found] == spans
    )


def check(folder: Place, manifest: Manifest, first: int, last: int, world_size: int) -> int:
    """Compares every rank's stream with direct reads; returns how many packs there were."""
    order, packs = order_of(manifest), read_packs(folder, manifest)
    total = 0
    for rank in range(world_size):
        count = order.count(first, last, rank, world_size)
        numbers = order.pack_numbers(first, np.arange(count), rank, world_size).tolist()
        received = list(
            stream(folder, manifest, order, first_step=first, last_step=last, rank=rank, world_size=world_size)
        )
        assert len(received) == count
        assert all(same(pack, packs[number]) for pack, number in zip(received, numbers, strict=True))
        total += count
    return total


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_rank_receives_its_packs_in_order(made: Prepared, world_size: int) -> None:
    manifest = made.manifest
    assert len(manifest.shards) > 2
    steps = order_of(manifest).steps_per_epoch
    assert check(Place.of(made.folder), manifest, 0, steps, world_size) == manifest.packs
    # From a step in the middle of an epoch to one in the middle of another.
    assert check(Place.of(made.folder), manifest, steps // 2, steps * 2 + 3, world_size) > manifest.packs


def test_tasks_that_overlap_keep_their_order(made: Prepared, tiny_model: Path, tmp_path: Path) -> None:
    """Each task gives several blocks, and two of them run at once."""
    data = Path(made.folder).parents[1] / "rows.jsonl"
    large = prepared(tiny_model, tmp_path / "out", [rated(data)], pack_tokens=16_384)
    folder, manifest, epochs = Place.of(large.folder), large.manifest, 80
    order = order_of(manifest)
    steps = epochs * order.steps_per_epoch
    packs = stream(folder, manifest, order, first_step=0, last_step=steps, rank=0, world_size=1)
    received = [pack.input_ids_T.tobytes() for pack in packs]
    known = [
        np.asarray([id for row in rows for id in row["input_ids"]], np.int32).tobytes()
        for rows in read_packs(folder, manifest)
    ]
    numbers = order.pack_numbers(0, np.arange(epochs * manifest.packs), 0, 1).tolist()
    assert received == [known[number] for number in numbers]


def test_nothing_to_stream(made: Prepared) -> None:
    order = order_of(made.manifest, packs_per_step=1)
    folder = Place.of(made.folder)
    assert not list(stream(folder, made.manifest, order, first_step=2, last_step=2, rank=0, world_size=1))
    assert not list(stream(folder, made.manifest, order, first_step=0, last_step=9, rank=1, world_size=2))


def test_a_cluster_without_a_cpu_to_spare(made: Prepared) -> None:
    import ray

    class Worker:
        def ready(self) -> bool:
            return True

    workers = [ray.remote(num_cpus=2)(Worker).remote() for _ in range(2)]
    try:
        assert ray.get([worker.ready.remote() for worker in workers], timeout=120) == [True, True]
        assert ray.available_resources().get("CPU", 0) == 0
        assert check(Place.of(made.folder), made.manifest, 0, 3, 2) == 15
        verify_shards(Place.of(made.folder), made.manifest)
    finally:
        for worker in workers:
            ray.kill(worker)


def test_shards_on_an_object_store(made: Prepared, tiny_model: Path, s3_folder: str) -> None:
    data = Path(made.folder).parents[1] / "rows.jsonl"
    output = s3_folder.format("runs/one")
    remote = prepared(tiny_model, output, [rated(data, message_weights="keep")])
    assert not remote.unchanged
    assert remote.manifest == made.manifest
    folder = Place.of(output) / "shards"
    assert read_packs(folder, remote.manifest) == read_packs(made.folder, made.manifest)
    assert check(folder, remote.manifest, 0, 12, 2) == 60
    verify_shards(folder, remote.manifest)

    # The second time nothing is done; other settings replace what is there.
    assert prepared(tiny_model, output, [rated(data, message_weights="keep")]).unchanged
    shorter = prepared(tiny_model, output, [rated(data)], context=64)
    assert not shorter.unchanged
    names = {place.name for place in folder.children()}
    assert names == {path.name for path in Path(made.folder).iterdir()}
    assert [place.name for place in Place.of(output).children()] == ["shards"]
    assert check(folder, shorter.manifest, 0, 5, 1) == 25


def test_input_on_an_object_store(made: Prepared, tiny_model: Path, tmp_path: Path, s3_folder: str) -> None:
    data = Path(made.folder).parents[1] / "rows.jsonl"
    place = Place.of(s3_folder.format("data/a/rows.jsonl"))
    place.write_bytes(data.read_bytes())
    for number, path in enumerate(("data/a/rows.jsonl", "data/**/*.jsonl", "data/a")):
        result = prepared(tiny_model, tmp_path / str(number), [rated(Path("x"), message_weights="keep")
                          | {"path": s3_folder.format(path)}])  # fmt: skip
        assert result.manifest.fingerprint == made.manifest.fingerprint


def test_a_missing_shard_is_a_clear_error(tiny_model: Path, tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "rows.jsonl", 100, seed=5)
    result = prepared(tiny_model, tmp_path / "out", [rated(data)])
    shard = Path(result.folder) / result.manifest.shards[0].file
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: missing or damaged shard"):
        PackReader(Place.of(result.folder), result.manifest)(0)
    order = order_of(result.manifest)
    packs = stream(Place.of(result.folder), result.manifest, order,
                   first_step=0, last_step=order.steps_per_epoch, rank=0, world_size=1)  # fmt: skip
    with pytest.raises(UserError) as caught:
        list(packs)
    assert str(caught.value).startswith(f"{shard}: missing or damaged shard")
    assert "\n" not in str(caught.value), "one message, no trace"
