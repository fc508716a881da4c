"""The registry itself: clients whose errors a person can act on, and versions as model folders."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.errors import UserError
from crlft_ray.tracking.access import denial
from crlft_ray.tracking.store import connect, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CANDIDATE = "champion", "candidate"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))$")


@contextmanager
def registry(uri: str, *, timeout_s: int = 120) -> Iterator[MlflowClient]:
    """A client, and MLflow's own functions on this server; afterwards the process is as before.

    Raises:
        UserError: the server cannot be reached, or denies access.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import RequestException  # of the artifact proxy

    names = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    before, former = {name: os.environ.get(name) for name in names}, mlflow.get_tracking_uri()
    os.environ.update(zip(names, (str(timeout_s), "false"), strict=True))
    mlflow.set_tracking_uri(uri)
    try:
        client = connect(uri)
        yield client
    except (MlflowException, RequestException) as error:
        raise UserError(_explained(error, uri)) from error
    finally:
        mlflow.set_tracking_uri(former)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _explained(error: Exception, uri: str) -> str:
    if (denied := denial(error, uri)) is not None:
        return denied
    text = shown(" ".join(str(error).split()))[:300]
    if "API request to" in text or "Max retries" in text or "onnection" in text:
        return f"the registry at {shown(uri)} cannot be reached: {text}; is the server running, and its address right?"
    return f"the registry at {shown(uri)}: {text}"


def find_version(client: MlflowClient, name: str, alias: str) -> Any | None:
    """The version that an alias of a registered model names; None where there is no such alias or model."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            return None
        raise


def version_folder(model: str) -> Path:
    """The model folder of models:/NAME@ALIAS or models:/NAME/VERSION, brought into the cache once a machine.

    The registry is the one that MLFLOW_TRACKING_URI names.

    Raises:
        UserError: no such model, alias or version, or the registry cannot be used.
    """
    parts = _URI.fullmatch(model)
    if parts is None:
        raise UserError(f"{model}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError(f"{model}: set MLFLOW_TRACKING_URI to the MLflow server or database that has it")
    with registry(uri) as client:
        return version_files(client, uri, parts["name"], _version(client, model, parts))


def _version(client: MlflowClient, model: str, parts: re.Match[str]) -> str:
    from mlflow.exceptions import MlflowException

    if parts["alias"]:
        found = find_version(client, parts["name"], parts["alias"])
        if found is None:
            raise UserError(f"{model}: the registry has no model '{parts['name']}' with the alias '{parts['alias']}'")
        return str(found.version)
    try:
        return str(client.get_model_version(parts["name"], parts["version"]).version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(f"{model}: the registry has no version {parts['version']} of it") from None
        raise


def version_files(client: MlflowClient, uri: str, name: str, version: str) -> Path:
    """The model folder of a version, from the cache or the registry."""
    from mlflow.artifacts import download_artifacts

    from crlft_ray.model.find import cached

    def bring(folder: Path) -> None:
        folder.mkdir(parents=True)
        brought = Path(download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(folder)))
        inside = brought / "model"
        if not (inside / "config.json").exists():
            raise UserError(f"models:/{name}/{version}: holds no transformers model that `crlft register` has made")

    # A version never changes, but another server may have one of the same name and number.
    created = client.get_model_version(name, version).creation_timestamp
    digest = hashlib.sha256(f"{uri} {created}".encode()).hexdigest()[:12]
    return cached(f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{version}-{digest}", bring) / "model"
