"""Where a model is looked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crlft_ray.config import validate
from crlft_ray.errors import UserError
from crlft_ray.model.find import model_folder
from crlft_ray.model.shape import model_config
from crlft_ray.shards.prepare import chat_tokenizer, model_path
from tests.synthetic import raw_config


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of this test alone."""
    monkeypatch.setenv("CRLFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> str:
    """The URI of a model on storage."""
    shutil.copytree(tiny_model, tmp_path / "stored")
    return f"file://{tmp_path}/stored"


def test_a_driver_takes_no_weights_from_storage(stored: str, cache: Path, tmp_path: Path) -> None:
    config = validate(raw_config(stored, tmp_path / "out", tmp_path / "rows.jsonl"), "test")
    folder = Path(model_path(config))
    assert not list(cache.rglob("*.safetensors"))
    assert model_config(str(folder)).hidden_size == 16
    assert chat_tokenizer(config).digest
    whole = model_folder(stored)
    assert (whole / "model.safetensors").exists()
    assert {path.name for path in whole.iterdir()} - {path.name for path in folder.iterdir()} == {"model.safetensors"}
    assert {path.name for path in (cache / "models").iterdir()} == {folder.name, whole.name}


def test_no_model_on_storage(tmp_path: Path) -> None:
    for find in (model_folder, lambda model: model_path(validate(raw_config(model, "o", "d"), "test"))):
        with pytest.raises(UserError, match=r"no model in this folder \(no config.json\)"):
            find(f"file://{tmp_path}")
