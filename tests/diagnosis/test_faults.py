"""Two hosts, on one of which six things are wrong: each is found and named, and nothing else; training is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crlft_ray.config import load_config
from crlft_ray.shards.prepare import prepare
from tests.cluster.hosts import MISSING, Host, block_chosen_ports, hosts
from tests.cluster.nodes import ray_node
from tests.diagnosis.other_python import make_python, path_without_compiler
from tests.runs import run_config, write_config, write_learnable

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

Planted = tuple[Host, Host, str, Path]
CRLFT = ("-c", "from crlft_ray.cli import main; main()")


@pytest.fixture(scope="module")
def planted(ray_session: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """The good host, the other one, the cluster's address, and a config with prepared shards."""
    folder = tmp_path_factory.mktemp("planted")
    with hosts(2) as (good, bad):
        source = write_learnable(folder / "conversations.jsonl", 20)
        raw = run_config(tiny_model, folder / "run", source, tracking={"uri": f"http://{good.address}:5999"})
        config = write_config(folder / "config.yaml", raw)
        prepare(load_config(config))
        python = make_python(folder / "python", without="mlflow", other="transformers", version="5.0.0")
        env = {
            "PATH": path_without_compiler(folder / "bin"),
            # Where no operator has been built yet.
            "TORCH_EXTENSIONS_DIR": str(folder / "operators"),
        }
        block_chosen_ports(bad)
        read_only = f"mount --bind -o ro '{folder}/run' '{folder}/run'"
        with (
            ray_node(good, good) as address,
            ray_node(bad, good, python=[python], env=env, before=read_only),
        ):
            yield good, bad, address, config


def test_each_is_named(planted: Planted) -> None:
    good, bad, address, config = planted
    result = good.run(*CRLFT, "doctor", config, "--address", address, "--json")
    assert result.returncode == 2, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["nodes"] == [good.address, bad.address]
    wrong = {(one["check"], one["node"]): one["text"] for one in found["findings"] if not one["ok"]}
    expected = {
        ("versions", bad.address): [r"mlflow is not installed: pip install 'mlflow==", "transformers is 5.0.0, but"],
        ("compiler", bad.address): [r"no C\+\+ compiler"],
        ("ports", good.address): [rf"no connection from {good.address} to {bad.address} at port", "open the TCP ports"],
        ("ports", bad.address): [rf"no connection from {bad.address} to {good.address} at port", "open the TCP ports"],
        ("output", bad.address): ["/run cannot be read and written", "Read-only file system"],
        ("MLflow", "driver"): [rf"http://{good.address}:5999 does not answer", "start the server"],
        ("MLflow", good.address): ["cannot be reached", "Connection refused"],
        ("MLflow", bad.address): ["cannot be reached", "Connection refused"],
    }
    assert set(wrong) == set(expected), wrong
    for place, parts in expected.items():
        assert all(re.search(part, wrong[place]) for part in parts), wrong[place]
    output = Path(load_config(config).output)
    assert [path.name for path in output.iterdir()] == ["shards"], "something was left there"


def test_training_is_refused(planted: Planted) -> None:
    good, bad, address, config = planted
    result = good.run(*CRLFT, "train", config, env={"RAY_ADDRESS": address})
    assert result.returncode == 2, result.stderr
    message = result.stderr[result.stderr.index("crlft: ") :]
    assert "Traceback" not in result.stderr
    assert re.search(rf"crlft: the cluster is not ready.*\n  {bad.address}: .*transformers is 5.0.0, but", message)
    assert "mlflow is not installed" in message
    assert good.address not in message
    assert _left(config) == ["shards"], "something was started"


def _left(config: Path) -> list[Any]:
    return sorted(path.name for path in Path(load_config(config).output).iterdir())
