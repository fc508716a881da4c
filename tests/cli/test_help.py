"""The command line as a process of its own: help at once, usage errors, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ray", "deepspeed", "mlflow", "transformers", "pyarrow", "numpy", "lm_eval")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = shutil.which("crlft", path=str(Path(sys.executable).parent))
    assert script, "the console script is not installed"
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})), file=sys.stderr))\n"
        f"sys.argv = ['crlft', *{arguments!r}]\n"
        "from crlft_ray.cli import main\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0
    assert "Usage: crlft" in result.stdout
    modules = json.loads(result.stderr.splitlines()[-1])
    assert "crlft_ray" in modules
    assert not set(HEAVY) & set(modules)


def test_the_help_names_every_command() -> None:
    result = _run("--help")
    assert result.returncode == 0
    for name in ("fetch", "prepare", "inspect", "train", "evaluate", "register", "run", "chat", "plan"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["evaluate", "m", "--limit", "0"], "'--limit'"),
        (["inspect", ".", "--pack", "first"], "'--pack'"),
        (["train", "c.yaml", "--fast"], "No such option: --fast"),
    ],
)
def test_wrong_usage_is_said_in_short(arguments: list[str], part: str) -> None:
    result = _run(*arguments)
    assert result.returncode == 2
    assert part in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_config_file_is_named() -> None:
    result = _run("train", "there/is/none.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "crlft: there/is/none.yaml: no such config file\n"


def test_every_command_is_a_function_of_the_library() -> None:
    """Also after all of the package's modules were imported."""
    import inspect
    import pkgutil
    from importlib import import_module

    import crlft_ray
    from crlft_ray.cli.app import app

    for module in pkgutil.walk_packages(crlft_ray.__path__, "crlft_ray."):
        import_module(module.name)

    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        assert callable(getattr(crlft_ray, name)), name
        assert "as_json" in inspect.signature(command.callback).parameters
