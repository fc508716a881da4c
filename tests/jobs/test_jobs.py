"""What `ray job submit` runs: the configs, the scripts, and what is brought to the cluster."""

from __future__ import annotations

import math
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from crlft_ray import load_config

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
CONFIGS = sorted((JOBS / "configs").glob("*.yaml"))
SCRIPTS = sorted(JOBS.glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid_and_listed(path: Path) -> None:
    load_config(path)
    assert f"`{path.name}`" in (JOBS / "README.md").read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_step_has_a_pack_for_every_worker(path: Path) -> None:
    config = load_config(path)
    packs = config.train.global_batch_tokens // config.data.pack_tokens
    assert packs % config.train.least_workers == 0


def test_the_papers_recipe() -> None:
    config = load_config(JOBS / "configs/llama2-13b.yaml")
    train = config.train
    assert (config.model, config.data.context, train.epochs) == ("meta-llama/Llama-2-13b-hf", 4096, 5)
    assert math.isclose(train.global_batch_tokens, 200_000, rel_tol=0.05)
    assert (train.lr, train.betas, train.eps, train.weight_decay) == (6.7e-5, (0.9, 0.95), 1e-5, 0.1)
    assert (train.warmup, train.final_lr, train.clip, train.precision) == (0.05, 0.1, 1.0, "bf16")
    assert config.class_weights() == [1.0, 0.1]
    assert (config.condition(), train.workers, train.gradient_checkpointing) == ("GPT4", 16, True)


def test_the_largest_one_offloads() -> None:
    config = load_config(JOBS / "configs/llama3-70b.yaml")
    assert config.train.workers == 64
    assert config.train.deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    # No GPU holds it as a whole, as those need who ask it.
    assert (config.evaluate.suites, config.register_.name) == ([], None)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_is_the_command_of_its_name(path: Path) -> None:
    text = path.read_text()
    assert f'sys.argv[1:1] = ["{path.stem}"]' in text
    assert len(text.splitlines()) < 15
    assert f"`{path.name} " in (JOBS / "README.md").read_text()


@pytest.mark.parametrize("name", ["runtime_env.yaml", "runtime_env_pip.yaml"])
def test_runtime_environment_brings_what_jobs_need_and_no_more(name: str) -> None:
    from ray.runtime_env import RuntimeEnv

    environment = RuntimeEnv(**yaml.safe_load((JOBS / name).read_text()))
    left_out = GitIgnoreSpec.from_lines(environment["excludes"])
    needed = [
        *SCRIPTS,
        *CONFIGS,
        *(ROOT / "crlft_ray").rglob("*.py"),
        ROOT / "constraints.txt",
        ROOT / "pyproject.toml",
    ]
    assert not list(left_out.match_files(str(path.relative_to(ROOT)) for path in needed))
    for heavy in (".git/config", ".venv/bin/python", "runs/a/export/model.safetensors", "tests/runs.py", "mlflow.db"):
        assert left_out.match_file(heavy)


def test_pip_environment_is_pinned() -> None:
    packages = yaml.safe_load((JOBS / "runtime_env_pip.yaml").read_text())["pip"]["packages"]
    folder = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
    assert packages == [f"--constraint {folder}/constraints.txt", f"crlft-ray[eval] @ file://{folder}"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(line.split("==")[0]) for line in lines if not line.startswith("#")}
    needed = [Requirement(text) for text in requires("crlft-ray") or []]
    assert {canonicalize_name(requirement.name) for requirement in needed} <= pins | {"crlft-ray"}
