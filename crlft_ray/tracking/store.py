"""What MLflow is told about a run when it is opened, and where MLflow is."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crlft_ray.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

KEY_TAG = "crlft.key"
_SQLITE = "sqlite:///"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PASSWORD = re.compile(r"(?i)(?<=[?&]password=)[^&#\s]+")


@dataclass(frozen=True)
class Dataset:
    """What a run learns from."""

    name: str
    fingerprint: str
    source: str
    """Where its shards lie."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Counts, tokens, fill: anything that JSON can hold."""


@dataclass(frozen=True)
class RunSpec:
    """How a run is described in MLflow."""

    experiment: str
    name: str
    params: Mapping[str, Any]
    """The resolved config, nested as it is."""
    dataset: Dataset | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def tracking_uri(uri: str | None, output: str, key: str = "tracking.uri") -> str:
    """Where MLflow keeps the run: what `key` says, or SQLite in the output folder; paths are absolute.

    Raises:
        UserError: the URI is one that MLflow cannot use, or holds a password.
    """
    if uri is None:
        if "://" in output:
            raise UserError(f"{key}: is required, because MLflow's database cannot lie in {output}")
        return f"{_SQLITE}{Path(output).absolute() / 'mlflow.db'}"
    if uri.startswith(_SQLITE):
        # A worker's current folder is another one than the driver's.
        return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).absolute()}"
    if urlsplit(uri).scheme in ("", "file") and uri != "databricks":
        raise UserError(
            f"{key}: MLflow no longer keeps runs in plain folders: give a server (http://host:5000) or a database "
            f"({_SQLITE}mlflow.db), or leave it out, not {uri!r}"
        )
    if urlsplit(uri).password is not None or _PASSWORD.search(uri):
        raise UserError(
            f"{key}: {shown(uri)} holds a password, which would be kept with the run; leave it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or PGPASSWORD for a PostgreSQL without a server"
        )
    return uri


def connect(uri: str, key: str = "tracking.uri") -> MlflowClient:
    """A client that gives up early, so that a dead server holds up nobody.

    Raises:
        UserError: no such kind of tracking server.
    """
    # Set for the whole process, as MLflow has no other way; what the user has set stays. MLflow's own retries are
    # off because they send a metric again without asking whether it had arrived.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # The making of a new database is no news for a person who watches a training.
    for name in ("mlflow.store.db.utils", "alembic.runtime.migration", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if uri.startswith(_SQLITE):
        Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(uri)
    except MlflowException as error:
        if "unsupported" in type(error).__name__.lower():
            raise UserError(f"{key}: MLflow knows no such server: {shown(uri)}") from None
        raise


def check_kind(uri: str, key: str = "tracking.uri") -> None:
    """Whether MLflow knows such a server, which need not answer yet.

    Raises:
        UserError: it does not.
    """
    from mlflow.exceptions import MlflowException

    # A client of a database connects to it at once, and others not at all.
    if urlsplit(uri).scheme.partition("+")[0] not in _DATABASES:
        try:
            connect(uri, key)
        except MlflowException as error:
            raise UserError(f"{key}: MLflow cannot use {shown(uri)}: {shown(str(error))[:300]}") from None


def shown(uri: str) -> str:
    """A URI, or a text with some in it, without passwords."""
    return _PASSWORD.sub("…", re.sub(r"//[^/\s\"]*@", "//…@", uri))


def reason(error: Exception, uri: str) -> str:
    """An error in one line, without a password."""
    text = " ".join(str(error).split()).replace(uri, shown(uri))
    return f"{type(error).__name__}: {shown(text)[:300]}"


def entity_name(name: str) -> str:
    """The name under which MLflow takes a metric or parameter; its own one wherever MLflow allows it.

    Names come from classes, which the user calls as he likes. A changed name ends in a hash, so that two never meet.
    """
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    clean = "/".join(part for part in parts if part not in ("", ".", ".."))
    if clean == name and len(name) <= 250:
        return name
    return f"{clean[:240]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.0.c` → text; lists of plain values stay together."""
    if isinstance(value, Mapping) and (value or not prefix):
        items = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(child, Mapping | list | tuple) for child in value):
        items = [(str(number), child) for number, child in enumerate(value)]
    else:
        return {prefix: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}
    flat: dict[str, str] = {}
    for key, child in items:
        flat.update(flatten(child, f"{prefix}.{key}" if prefix else key))
    return flat


def open_run(client: MlflowClient, uri: str, spec: RunSpec, key: str, run_id: str | None = None) -> str:
    """Creates or continues a run, and tells MLflow whatever of `spec` it does not know; returns the run's id.

    It may be repeated after any failure: the run is found again by `key`, a name that was made before the first try,
    even if MLflow's answer to its creation was lost.

    Raises:
        UserError: the experiment was deleted in MLflow.
        MlflowException: the server is away or refuses.
    """
    experiment = _experiment(client, uri, spec.experiment)
    run = _existing(client, run_id) if run_id else None
    if run is None:
        found = client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        run = found[0] if found else client.create_run(experiment, tags={KEY_TAG: key}, run_name=spec.name)
    found_id: str = run.info.run_id
    if run.info.status != "RUNNING":
        client.update_run(found_id, status="RUNNING")
    _describe(client, run, spec)
    return found_id


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # MLflow would put the artifacts of a SQLite database into the current folder.
        local = Path(uri.removeprefix(_SQLITE)).parent / "mlartifacts" if uri.startswith(_SQLITE) else None
        try:
            return str(client.create_experiment(name, artifact_location=local.as_uri() if local else None))
        except MlflowException as error:
            # Another run may have been quicker.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise error
    if experiment.lifecycle_stage != "active":
        raise UserError(f"tracking.experiment: '{name}' was deleted in MLflow; restore it there or give another name")
    return str(experiment.experiment_id)


def _existing(client: MlflowClient, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = None
    if run is None or run.info.lifecycle_stage != "active":
        log.warning("tracking: MLflow no longer has run %s; the training goes on in a new one", run_id)
        return None
    return run


def _describe(client: MlflowClient, run: Any, spec: RunSpec) -> None:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag, Param, RunTag

    limit = 6000  # MLflow's longest value
    wanted = {entity_name(name): value[:limit] for name, value in flatten(spec.params).items()}
    known = run.data.params
    tags = dict(spec.tags)
    for name in [name for name in wanted if name in known]:
        # Parameters cannot be overwritten; a resumed run may have others, and that must be seen.
        tag = entity_name(f"changed.{name}")
        history = run.data.tags.get(tag, known[name][:500])
        if history.split(" → ")[-1] != wanted[name][:500]:
            tags[tag] = f"{history} → {wanted[name][:500]}"[-5000:]
    run_id = run.info.run_id
    params = [Param(name, value) for name, value in wanted.items() if name not in known]
    for first in range(0, len(params), 100):
        client.log_batch(run_id, params=params[first : first + 100])
    if (data := spec.dataset) is not None:
        facts = flatten({"fingerprint": data.fingerprint, **data.facts}, "dataset")
        tags.update({entity_name(name): value[:5000] for name, value in facts.items()})
        # MLflow's digests have 36 characters at most; the tag holds the whole fingerprint.
        digest = data.fingerprint[:36]
        if not any(known.dataset.digest == digest for known in run.inputs.dataset_inputs):
            profile = json.dumps(dict(data.facts), ensure_ascii=False, default=str)
            source = json.dumps({"uri": data.source})
            dataset = MlflowDataset(data.name[:500], digest, "local", source, profile=profile)
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    rows = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    for first in range(0, len(rows), 100):
        client.log_batch(run_id, tags=rows[first : first + 100])
