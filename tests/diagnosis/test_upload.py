"""What a job brings to the cluster is added up as Ray packs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crlft_ray.diagnosis.upload import check_upload
from crlft_ray.errors import UserError
from tests.cluster.hosts import REPOSITORY


def _folder(folder: Path, excludes: str = "[]") -> Path:
    """With 400 MB in `runs`, 200 MB in a file, and some code; files with holes take no room on the disk."""
    for name, size in (("runs/model.safetensors", 400e6), ("data.jsonl", 200e6), ("code.py", 1e3), (".git/x", 900e6)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(int(size))
    runtime_env = folder / "runtime_env.yaml"
    runtime_env.write_text(f"working_dir: {folder}\nexcludes: {excludes}\n")
    return runtime_env


def test_a_large_one(tmp_path: Path) -> None:
    found = check_upload(_folder(tmp_path))
    assert not found.ok
    assert f"{tmp_path}: 600.0 MB in 4 files, and Ray takes 537 MB: runs 400 MB, data.jsonl 200 MB" in found.text
    assert "such as [/runs, /data.jsonl]" in found.text


def test_what_is_excluded_does_not_count(tmp_path: Path) -> None:
    assert check_upload(_folder(tmp_path, "[/runs]")).ok
    runtime_env = _folder(tmp_path)
    (tmp_path / ".rayignore").write_text("*.jsonl\n")
    assert check_upload(runtime_env).ok


def test_ours_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name in ("runtime_env.yaml", "runtime_env_pip.yaml"):
        found = check_upload(Path("jobs") / name)
        assert found.ok, found.text
        assert float(found.text.split(": ")[1].split(" MB")[0]) < 10, found.text


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file"),
        ("a: [", "cannot be read"),
        ("working_dir: s3://bucket/x.zip", "names no local folder as working_dir (it is 's3://bucket/x.zip')"),
        ("env_vars: {}", "names no local folder as working_dir (it is None)"),
    ],
)
def test_files_that_say_nothing(content: str | None, part: str, tmp_path: Path) -> None:
    file = tmp_path / "runtime_env.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as error:
        check_upload(file)
    assert "--runtime-env: " in str(error.value)
    assert part in str(error.value)
