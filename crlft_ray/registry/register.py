"""`crlft register`: a run's export becomes a model version, and the champion if the gate lets it."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.config import Config, load_config, read_config
from crlft_ray.config.train import Precision
from crlft_ray.device import native_precision
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer, from_arrow, to_arrow
from crlft_ray.evaluation.contamination import Contamination, contamination
from crlft_ray.evaluation.scores import SuiteScore
from crlft_ray.evaluation.scoring import score_models
from crlft_ray.evaluation.suites import Suite, load_suite
from crlft_ray.export.provenance import Provenance, read_provenance
from crlft_ray.lease import owned
from crlft_ray.model.find import model_folder
from crlft_ray.registry.gate import Decision, decide
from crlft_ray.registry.registry import CANDIDATE, CHAMPION, find_version, registry, version_files
from crlft_ray.registry.turns import check_turn, turn
from crlft_ray.registry.versions import (
    ANSWERS,
    FORCED,
    PASSED,
    PRECISION,
    REFUSED,
    Described,
    close_version,
    create_version,
    log_model,
)
from crlft_ray.shards.prepare import shards_folder
from crlft_ray.storage import Place
from crlft_ray.tracking.access import denial
from crlft_ray.tracking.store import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A new version, and what became of it."""

    name: str
    version: str
    promoted: bool
    forced: bool
    decision: Decision
    base_way: str
    """How the base model was asked: the way that suited it better."""
    tracking_uri: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "tracking_uri": shown(self.tracking_uri)}

    def text(self) -> str:
        """For a person."""
        alias = CHAMPION if self.promoted else CANDIDATE
        lines = [f"{self.name} version {self.version} is now models:/{self.name}@{alias}: {self.decision.reason}"]
        if self.forced:
            lines.append("The gate was overridden by --force; that and the reason are kept with the version.")
        elif not self.promoted:
            lines.append(f"models:/{self.name}@{CHAMPION} stays as it was.")
        return "\n".join(lines)


def register(
    run: str,
    *,
    name: str,
    level: float | None = None,
    suite: str | None = None,
    force: bool = False,
    reason: str | None = None,
    threads: int = 1,
) -> Registered:
    """Registers the export of a run; the alias `champion` moves only if the gate lets it.

    What the gate needs to know and is not answered yet is asked now: the export, its base model, and a champion whose
    answers are not kept or are to other questions.

    Args:
        run: output folder of a finished run.
        name: of the registered model; it is made where there is none.
        level, suite: of the gate; None for the config's.
        force: make it the champion whatever the gate says.
        reason: why it is forced; required then.
        threads: CPU threads of each worker that asks.

    Raises:
        UserError: no finished run there, or the registry cannot be used.
    """
    _check_request(name, force, reason)
    place = Place.of(run)
    config, result = _finished(place)
    level = config.register_.level if level is None else level
    if not 0 < level < 1:
        raise UserError(f"level: must be between 0 and 1, not {level:g}")
    asked = load_suite(suite or config.register_.suite, half="gate")
    if not asked.questions:
        raise UserError(f"suite: {asked.name} has no question in its gate half")
    from crlft_ray.ray_session import connect

    uri, export = result["tracking_uri"], result["export"]
    with owned(run), registry(uri) as client:
        # Before anything is asked: whether the registry can be used at all.
        client.search_registered_models(max_results=1)
        run_id = _run_id(client, result)
        connect()
        answers = place / "evaluation" / "answers"
        scores = score_models([export, config.model], [asked], answers, threads=threads)
        entry = _Entry(
            export=export,
            provenance=_provenance(export),
            run_id=run_id,
            suite=asked,
            score=scores[0][asked.name],
            base=scores[1][asked.name],
            overlap=contamination(shards_folder(config), asked),
            answers=answers,
            precision=native_precision(),
            threads=threads,
        )
        return _through_the_gate(client, uri, name, entry, place, level, reason)


@dataclass(frozen=True)
class _Entry:
    """A candidate with all that the gate looks at."""

    export: str
    provenance: Provenance
    run_id: str
    suite: Suite
    score: SuiteScore
    base: SuiteScore
    overlap: Contamination
    answers: Place
    precision: Precision
    threads: int


def _check_request(name: str, force: bool, reason: str | None) -> None:
    if re.search(r"[/:@'\"%]", name) or not name.strip():
        raise UserError(f"--name {name}: must not be empty or contain any of / : @ ' \" %")
    if force and not (reason or "").strip():
        raise UserError('--force needs --reason "…": it is kept with the version')
    if reason and not force:
        raise UserError("--reason goes with --force; leave it out")


def _through_the_gate(
    client: MlflowClient, uri: str, name: str, entry: _Entry, place: Place, level: float, reason: str | None
) -> Registered:
    described = Described(
        entry.provenance, entry.run_id, entry.score, entry.base, entry.overlap, entry.precision, _all_scores(place)
    )
    with tempfile.TemporaryDirectory(prefix="crlft-register-") as scratch:
        kept = Path(scratch) / f"{entry.suite.name.replace(':', '-')}.arrow"
        kept.write_bytes(to_arrow(entry.score.answers))
        log.info("logging the model to %s", shown(uri))
        logged = log_model(client, model_folder(entry.export), entry.run_id, kept)
    version = create_version(client, name, logged, described)
    with turn(client, name, version):
        champion = find_version(client, name, CHAMPION)
        decision = decide(
            entry.score.answers,
            entry.base.answers,
            _champions_answers(client, uri, champion, entry) if champion else None,
            occurring=entry.overlap.occurring,
            level=level,
        )
        check_turn(client, name, version)
        promoted = decision.promoted or reason is not None
        state = FORCED if reason is not None else PASSED if promoted else REFUSED
        close_version(client, name, version, CHAMPION if promoted else CANDIDATE, decision, state, reason)
    return Registered(name, version, promoted, reason is not None, decision, str(entry.base.way), uri)


def _champions_answers(client: MlflowClient, uri: str, champion: Any, entry: _Entry) -> Sequence[Answer]:
    """The champion's answers to the very questions; kept ones, or it is asked now. None at all if it cannot be."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from requests import RequestException  # of the artifact proxy

    wanted = {(answer.task, answer.question, answer.gold) for answer in entry.score.answers}
    kept = champion.tags.get(ANSWERS)
    if kept and champion.tags.get(PRECISION) == entry.precision:
        try:
            path = Path(download_artifacts(artifact_uri=kept))
            answers = from_arrow(path.read_bytes(), kept)
            if {(answer.task, answer.question, answer.gold) for answer in answers} == wanted:
                return answers
        except (MlflowException, OSError, UserError) as error:
            log.warning("the champion's answers are gone (%s)", error)
    log.info("asking the champion, version %s: its answers to these questions are not kept", champion.version)
    try:
        folder = version_files(client, uri, champion.name, str(champion.version))
        (found,) = score_models([str(folder)], [entry.suite], entry.answers, threads=entry.threads)
    except (MlflowException, RequestException, UserError) as error:
        # Its files are gone, or another user's: whether the new one is below it cannot be known then.
        log.warning("the champion cannot be asked: %s", denial(error, uri) or error)
        return []
    return found[entry.suite.name].answers


def _finished(place: Place) -> tuple[Config, dict[str, Any]]:
    config, result = place / "config.yaml", place / "result.json"
    if not result.exists() or not config.exists():
        raise UserError(f"{place}: no finished run here (no result.json); give the output folder of `crlft train`")
    if config.is_local:
        return load_config(config.path), json.loads(result.read_text())

    return read_config(config), json.loads(result.read_text())


def _provenance(export: str) -> Provenance:
    found = read_provenance(model_folder(export))
    if found is None:
        raise UserError(f"{export}: no crlft.json; export the model again with `crlft train`")
    return found


def _run_id(client: MlflowClient, result: dict[str, Any]) -> str:
    from mlflow.exceptions import MlflowException

    run_id = result["mlflow_run_id"]
    if run_id is None:
        raise UserError(f"{result['output']}: MLflow never had this run; `crlft train` again delivers it")
    try:
        return str(client.get_run(run_id).info.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(f"{result['output']}: its run {run_id} is not in {shown(result['tracking_uri'])}") from None
        raise


def _all_scores(place: Place) -> dict[str, Any] | None:
    """What `crlft run` found on all suites, both halves, if it was run."""
    scores = place / "evaluation" / "scores.json"
    return dict(json.loads(scores.read_text())) if scores.exists() else None
