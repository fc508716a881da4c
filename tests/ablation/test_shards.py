"""The project's own reading, cleaning and tokenising takes the world's files and model as they are, every row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.ipc

from crlft_ray.ablation.model import TEMPLATE, Size, write_model
from crlft_ray.ablation.world import World
from crlft_ray.config import load_config
from crlft_ray.conversations.files import cut, find_files
from crlft_ray.shards.prepare import chat_tokenizer
from crlft_ray.shards.tokenise import spill_piece
from crlft_ray.storage import Place
from tests.runs import write_config


def test_every_row_becomes_a_conversation_of_its_class(tmp_path: Path) -> None:
    world = World(seed=6, conversations=3000, expert_share=0.1, middle_share=0.2, mislabelled=0.1)
    written = world.write(tmp_path / "data")
    model = write_model(
        tmp_path / "model", world.samples(), Size(hidden=32, layers=1, heads=2, intermediate=48), seed=0
    )
    raw = {
        "model": str(model),
        "output": str(tmp_path / "run"),
        "template": TEMPLATE,
        "classes": {tag: {"condition": tag} for tag in written},
        "infer_as": "expert",
        "data": {"sources": [{"path": str(path), "class": tag} for tag, path in written.items()], "context": 128},
    }
    config = load_config(write_config(tmp_path / "config.yaml", raw))
    kept: Counter[str] = Counter()
    ids = set()
    for number, tag in enumerate(written):
        (file,) = find_files(number, config.data.sources[number].path)
        (piece,) = cut(file, 1 << 30)
        target = Place.of(tmp_path / tag)
        counts = spill_piece(
            piece, target, config=config, tokenizer=chat_tokenizer(config), buckets=1, most_bytes=1 << 30
        )
        assert counts.rejected == 0
        assert not counts.cleaned
        (spill,) = counts.spills
        table = pyarrow.ipc.open_file(spill.read_bytes()).read_all()
        assert not any(table.column("truncated").to_pylist())
        kept[tag] = table.num_rows
        ids |= set(table.column("id").to_pylist())
    assert kept == Counter(sample.tag for sample in world.samples())
    # The same content twice would be dropped as a duplicate.
    assert len(ids) == 3000
