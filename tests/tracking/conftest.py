"""A database with MLflow's schema in it, copied for each test: creating the schema takes seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from .server import Server


@pytest.fixture(scope="session")
def _schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(_schema: Path, tmp_path: Path) -> str:
    shutil.copy(_schema, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session")
def server(_schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Running; one for all tests, because its start takes longer than any of them. Who kills it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_schema, folder / "server.db")
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
