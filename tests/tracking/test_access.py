"""What a server's denial looks like, by the errors of MLflow and of its artifact proxy."""

from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST, UNAUTHENTICATED

from crlft_ray.errors import UserError
from crlft_ray.tracking.access import denial, denials_explained, mlflow_environment

URI = "http://me:secret@host:5000"  # pragma: allowlist secret


def _of_proxy(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Client Error: x", response=response)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MlflowException("x", UNAUTHENTICATED), "does not accept the user name and password"),
        (_of_proxy(401), "does not accept the user name and password"),
        (
            MlflowException("API request to endpoint /api/2.0/mlflow/runs/get failed with 403", PERMISSION_DENIED),
            "(mlflow/runs/get): this user lacks the permission",
        ),
        (_of_proxy(403), "denies access: this user lacks the permission"),
        (MlflowException("failures occurred: HTTPError('403 Client Error: Forbidden')"), "lacks the permission"),
    ],
)
def test_a_denial_says_what_to_set(error: Exception, words: str) -> None:
    said = denial(error, URI) or ""
    assert words in said
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    assert "secret" not in said
    with pytest.raises(UserError, match="MLflow at"), denials_explained(URI):
        raise error


@pytest.mark.parametrize("error", [MlflowException("x", RESOURCE_DOES_NOT_EXIST), _of_proxy(404), OSError("401")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert denial(error, URI) is None
    with pytest.raises(type(error)), denials_explained(URI):
        raise error


def test_an_actor_is_given_mlflows_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("PGPASSWORD", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    found = mlflow_environment()
    assert (found["MLFLOW_TRACKING_USERNAME"], found["PGPASSWORD"]) == ("me", "x")
    assert "AWS_SECRET_ACCESS_KEY" not in found
