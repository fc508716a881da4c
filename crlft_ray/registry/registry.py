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

    with _as_before_afterwards():
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(timeout_s)
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        mlflow.set_tracking_uri(uri)
        try:
            yield connect(uri)
        except (MlflowException, RequestException) as error:
            raise UserError(_explained(error, uri)) from error


@contextmanager
def _as_before_afterwards() -> Iterator[None]:
    """Puts the address that MLflow's functions go to, and its variables, back to what they were."""
    import mlflow

    before = _variables()
    # An address that was set in MLflow goes before the variable, and is told from it only without the variable.
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    own = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    try:
        os.environ.update(before)
        yield
    finally:
        # None is what MLflow starts with. It sets or removes the variable as well.
        mlflow.set_tracking_uri(own)
        for name in _variables():
            del os.environ[name]
        os.environ.update(before)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


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
