"""A model version: what is logged, and how it says where it comes from."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlft_ray.config.train import Precision
from crlft_ray.evaluation.contamination import Contamination
from crlft_ray.evaluation.quiet import quiet_and_offline
from crlft_ray.evaluation.scores import SuiteScore
from crlft_ray.export.provenance import Provenance
from crlft_ray.registry.gate import Decision
from crlft_ray.registry.turns import GATE, PENDING

if TYPE_CHECKING:
    from mlflow import MlflowClient

PASSED, REFUSED, FORCED = "passed", "refused", "forced"
ANSWERS, PRECISION = "crlft.answers", "crlft.gate_precision"
_TASK = "llm/v1/chat"
_REQUIRED = ("torch", "transformers", "accelerate")
_LONGEST_REPLY = 512
"""Tokens of a served answer where the caller gives no max_tokens; transformers' own default is 20."""
_EXAMPLE = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@dataclass(frozen=True)
class Described:
    """What a version's tags and description say."""

    provenance: Provenance
    run_id: str
    score: SuiteScore
    """On the gate half."""
    base: SuiteScore
    overlap: Contamination
    precision: Precision
    """The models answered in."""
    all_scores: dict[str, Any] | None
    """evaluation/scores.json of the run, if there is one."""

    def tags(self) -> dict[str, str]:
        """Facts that a program can read."""
        made = self.provenance
        classes = {name: {"condition": made.conditions[name], "weight": made.weights[name]} for name in made.conditions}
        tags = {
            "crlft.fingerprint": made.fingerprint,
            "crlft.classes": json.dumps(classes, ensure_ascii=False),
            "crlft.infer_as": made.infer_as,
            "crlft.base_model": made.base_model,
            "crlft.code_version": made.version,
            "crlft.steps": str(made.steps),
            "crlft.gate_suite": self.score.suite,
            PRECISION: self.precision,
            "crlft.gate_score": _value(self.score),
            "crlft.gate_base_score": f"{_value(self.base)}, {self.base.way}",
            "crlft.overlapping_questions": f"{self.overlap.overlapping} of {self.overlap.questions}",
            "crlft.occurring_questions": str(len(self.overlap.occurring)),
        }
        for number, model in enumerate((self.all_scores or {}).get("models", [])[:2]):
            for suite, score in model["suites"].items():
                name = ("crlft.score", "crlft.base_score")[number]
                tags[f"{name}.{suite.replace(':', '_')}"] = f"{score['score']:.4f} ± {score['stderr']:.4f}"
        return {name: value[:5000] for name, value in tags.items()}

    def text(self) -> str:
        """The version's description."""
        made = self.provenance
        rows = "\n".join(
            f"| {name}{' (default)' if name == made.infer_as else ''} | {condition or '–'} | {made.weights[name]:g} |"
            for name, condition in made.conditions.items()
        )
        examples = "".join(f"\n- {found['task']}: “{found['words']}”" for found in self.overlap.examples)
        return (
            f"{made.base_model} after {made.steps:,} steps of C-RLFT on data `{made.fingerprint[:12]}`.\n\n"
            f"| class | condition | weight |\n|---|---|---|\n{rows}\n\n"
            f"{self.score.suite}, gate half: {_value(self.score)}; base: {_value(self.base)} ({self.base.way}).\n\n"
            f"{self.overlap.overlapping} of {self.overlap.questions} questions share 13 words in a row with the "
            f"training data, {len(self.overlap.occurring)} are in it as a whole.{examples}"
        )


def _value(score: SuiteScore) -> str:
    return f"{score.score:.4f} ± {score.stderr:.4f}{' (at chance)' if score.at_chance else ''}"


@dataclass(frozen=True)
class Logged:
    """A model in a run's artifacts."""

    model_uri: str
    model_id: str | None
    answers_uri: str


def log_model(client: MlflowClient, export: Path, run_id: str, answers: Path) -> Logged:
    """Logs the export as a chat model of its run, and the answers that the gate looks at beside it.

    The model is not loaded: whatever its size, its files are copied.
    """
    import mlflow.transformers
    from huggingface_hub import ModelCard

    status = client.get_run(run_id).info.status
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet_and_offline(), _task_classes(), mlflow.start_run(run_id=run_id, log_system_metrics=False):
            info = mlflow.transformers.log_model(
                str(export),
                name="model",
                task=_TASK,
                model_card=ModelCard.load(export / "README.md"),
                input_example=_EXAMPLE,
                pip_requirements=[
                    f"{name}=={package_version(name)}" for name in ("torch", "transformers", "accelerate")
                ],
                model_config={"max_new_tokens": _LONGEST_REPLY},
            )
    finally:
        logger.setLevel(level)
        client.set_terminated(run_id, status if status != "RUNNING" else None)
    # A folder a registration: a run that went on and is registered again must not overwrite what its champion answered.
    into = f"gate/{info.model_id}"
    client.log_artifact(run_id, str(answers), into)
    return Logged(info.model_uri, info.model_id, f"runs:/{run_id}/{into}/{answers.name}")


@contextmanager
def _task_classes() -> Iterator[None]:
    """MLflow 3.17 takes a task's pipeline for a class, which newer transformers name by a dotted path instead."""
    from transformers import pipelines

    original = pipelines.check_task

    def check_task(task: str) -> Any:
        name, defaults, options = original(task)
        if isinstance(path := defaults["impl"], str):
            module, _, class_name = path.rpartition(".")
            defaults = {**defaults, "impl": getattr(import_module(module), class_name)}
        return name, defaults, options

    pipelines.check_task = check_task
    try:
        yield
    finally:
        pipelines.check_task = original


def create_version(client: MlflowClient, name: str, logged: Logged, described: Described) -> str:
    """A version that is still pending; its number is its turn."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source=logged.model_uri,
        run_id=described.run_id,
        tags={**described.tags(), ANSWERS: logged.answers_uri, GATE: PENDING},
        description=described.text(),
        model_id=logged.model_id,
    )
    client.set_tag(described.run_id, f"crlft.version.{name}"[:250], created.version)
    return str(created.version)


def close_version(
    client: MlflowClient, name: str, version: str, alias: str, decision: Decision, state: str, reason: str | None
) -> None:
    """Keeps the decision with the version, and moves the alias to it."""
    client.set_model_version_tag(name, version, "crlft.gate_reason", decision.reason[:5000])
    client.set_model_version_tag(name, version, "crlft.gate_decision", json.dumps(decision.to_dict())[:5000])
    if reason is not None:
        client.set_model_version_tag(name, version, "crlft.forced_reason", reason[:5000])
    client.set_registered_model_alias(name, alias, version)
    # Last: from here on nobody waits for it any more.
    client.set_model_version_tag(name, version, GATE, state)
