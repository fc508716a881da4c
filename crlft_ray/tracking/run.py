"""A run as its output folder knows it: what MLflow could not be told is kept there and told later."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from crlft_ray.errors import Stopped, UserError
from crlft_ray.tracking.access import denials_explained
from crlft_ray.tracking.lock import locked
from crlft_ray.tracking.spool import replace_text
from crlft_ray.tracking.store import Dataset, RunSpec, connect, flatten, open_run, reason, shown

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Run:
    """The MLflow run of an output folder.

    `folder`/run.json holds its id and what is still to be told. Nothing here raises because MLflow is away: it is
    said in a warning, and the next call, in this process or a later one, tries again. One process at a time, but for
    opening it.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self._path = folder / "run.json"

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as MLflow could not be reached."""
        run_id = self._load()["run_id"]
        return None if run_id is None else str(run_id)

    @property
    def started(self) -> bool:
        """Whether the run was described in this folder, now or in an earlier process."""
        return self._load()["spec"] is not None

    @property
    def ended(self) -> bool:
        """Whether MLflow knows that it has ended since it was started last."""
        return bool(self._load()["ended"])

    def start(self, spec: RunSpec, run_id: str | None = None) -> str | None:
        """Opens the run, or continues the one that this folder or `run_id` (a checkpoint's) names: `describe`, `begin`.

        Returns, raises: as `begin`.
        """
        self.describe(spec, run_id)
        return self.begin()

    def adopt(self, run_id: str) -> None:
        """Goes on with a run that MLflow has and another machine began, where this folder knows of none."""
        state = self._load()
        if state["run_id"] is None:
            state.update(run_id=run_id, opened=True)
            self._save(state)

    def describe(self, spec: RunSpec, run_id: str | None = None) -> None:
        """Says what the run is, to be opened by `begin` or, at its first values, by a `Recorder` on this folder.

        Raises:
            OSError: the folder cannot be written.
        """
        with locked(self.folder / "run.lock"):
            self._describe(spec, run_id)

    def _describe(self, spec: RunSpec, run_id: str | None) -> None:
        state = self._load()
        params = {name: shown(value) for name, value in flatten(spec.params).items()}
        described = {**asdict(spec), "params": params}
        state.update(run_id=run_id or state["run_id"], spec=described, opened=False, status=None, ended=False)
        self._save(state)

    def begin(self) -> str | None:
        """Opens the run that was described.

        Returns:
            its id, or None where MLflow is away; a `Recorder` on this folder then opens it as soon as it can.

        Raises:
            UserError: a wrong `tracking.uri`, the experiment was deleted, or the server denies access.
        """

        def begin() -> None:
            # At the start it can still be mended; later on it must not stop the training.
            with denials_explained(self.uri):
                self.open()

        self._try("open the run", begin)
        return self.run_id

    def log_artifacts(self, files: Sequence[Path], into: str = "") -> bool:
        """Copies files to the run's artifacts, under `into`; returns whether MLflow has them now.

        What is kept for later is the path, not the content.
        """

        def add() -> None:
            state = self._load()
            added = [[str(path.absolute()), into] for path in files]
            state["artifacts"] += [entry for entry in added if entry not in state["artifacts"]]
            self._save(state)
            self.deliver()

        return self._try("take artifacts", add)

    def tag(self, tags: Mapping[str, str]) -> bool:
        """Sets tags; returns whether MLflow has them now."""

        def add() -> None:
            state = self._load()
            state["tags"] |= tags
            self._save(state)
            self.deliver()

        return self._try("take tags", add)

    def finish(self, status: Status = "FINISHED") -> bool:
        """Ends the run; returns whether MLflow knows."""

        def end() -> None:
            state = self._load()
            state["status"] = status
            self._save(state)
            self.deliver()

        return self._try("end the run", end)

    @contextmanager
    def ended_with_block(self) -> Iterator[None]:
        """Ends the run as the block has ended: finished, stopped by a person, or failed."""
        status: Status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except (KeyboardInterrupt, Stopped):
            status = "KILLED"
            raise
        finally:
            self.finish(status)

    def open(self) -> str:
        """Opens the run in MLflow unless that was done, and returns its id.

        Raises:
            UserError: as `begin`; also where `describe` was never called.
            Exception: whatever MLflow's client raises.
        """
        state = self._load()
        if state["opened"] and state["run_id"] is not None:
            return str(state["run_id"])
        with locked(self.folder / "run.lock"):
            return self._open()

    def _open(self) -> str:
        state = self._load()
        if state["spec"] is None:
            raise UserError(f"{self.folder}: no run was started in this folder")
        if not state["opened"]:
            dataset = state["spec"]["dataset"]
            spec = RunSpec(**{**state["spec"], "dataset": Dataset(**dataset) if dataset else None})
            client = connect(self.uri)
            state["run_id"] = open_run(client, self.uri, spec, state["key"], state["run_id"])
            state["opened"] = True
            self._save(state)
        return str(state["run_id"])

    def deliver(self) -> None:
        """Tells MLflow what it has not been told yet.

        Raises:
            Exception: as `open`; what was told until then is not told again.
        """
        run_id = self.open()
        state = self._load()
        client = connect(self.uri)
        while state["artifacts"]:
            path, into = state["artifacts"][0]
            if Path(path).is_file():
                client.log_artifact(run_id, path, into or None)
            else:
                log.warning("tracking: %s is gone before MLflow had it as an artifact", path)
            del state["artifacts"][0]
            self._save(state)
        for name, value in list(state["tags"].items()):
            client.set_tag(run_id, name, value)
            del state["tags"][name]
            self._save(state)
        if state["status"] is not None:
            client.set_terminated(run_id, state["status"])
            state.update(status=None, ended=True)
            self._save(state)

    def _try(self, what: str, call: Callable[[], object]) -> bool:
        try:
            call()
        except UserError:
            raise
        except Exception as error:
            # MLflow raises its own, requests', SQLAlchemy's and the system's errors; none may stop the training.
            log.warning(
                "tracking: MLflow at %s could not %s (%s). Training is not affected; what is missing there is kept in "
                "%s and told later.",
                shown(self.uri),
                what,
                reason(error, self.uri),
                self._path,
            )
            return False
        return True

    def _load(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "key": uuid.uuid4().hex,
            "run_id": None,
            "spec": None,
            "opened": False,
            "artifacts": [],
            "tags": {},
            "status": None,
            "ended": False,
        }
        try:
            return {**empty, **json.loads(self._path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return empty
        except ValueError:
            log.warning("tracking: %s is damaged; the run is described to MLflow anew", self._path)
            return empty

    def _save(self, state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(self._path, json.dumps(state, ensure_ascii=False, indent=1))
