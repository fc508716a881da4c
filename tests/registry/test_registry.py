"""What a look into the registry leaves behind in the process: nothing."""

from __future__ import annotations

import os

import mlflow
import pytest

from crlft_ray.registry.registry import registry
from tests.tracking.server import free_port


@pytest.mark.parametrize("own", [None, "sqlite:////own.db"], ids=["unset", "set"])
@pytest.mark.parametrize("variable", [None, "http://host:5000"], ids=["no variable", "variable"])
def test_the_process_is_as_before(own: str | None, variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", own)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    before, address = dict(os.environ), mlflow.get_tracking_uri()
    other = f"http://127.0.0.1:{free_port()}"
    with registry(other):
        assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == other
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "120"
    assert dict(os.environ) == before
    assert mlflow.get_tracking_uri() == address
    # What is set in MLflow goes before the variable, and what is not set follows it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert mlflow.get_tracking_uri() == (own or "http://elsewhere:5000")
