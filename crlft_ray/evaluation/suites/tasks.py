"""Suites that a user brings: a folder of lm-eval's task files (YAML)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from crlft_ray.errors import UserError
from crlft_ray.evaluation.quiet import quiet_and_offline
from crlft_ray.evaluation.suites.question import Question, identities


def is_task_folder(folder: Path) -> bool:
    """Whether lm-eval would find a task there."""
    return folder.is_dir() and any(folder.glob("*.yaml"))


def load_tasks(folder: Path) -> dict[str, Any]:
    """lm-eval's tasks of a folder by name; a relative path in `data_files` is relative to the task's file.

    Raises:
        UserError: lm-eval is not installed or cannot load them; nothing is looked up on a hub.
    """
    with quiet_and_offline():
        try:
            from lm_eval.tasks import TaskManager
            from lm_eval.tasks._yaml_loader import load_yaml
        except ImportError as error:
            raise UserError(f"evaluation needs lm-eval: pip install 'crlft-ray[eval]' ({error})") from None
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        loaded: dict[str, Any] = {}
        for file in sorted(folder.glob("*.yaml")):
            try:
                config = load_yaml(file)
                # Files without a task of their own are there to be included by others.
                if isinstance(config.get("task"), str):
                    loaded |= manager.load([_with_whole_paths(config, folder)])["tasks"]
            except Exception as error:
                # lm-eval and `datasets` raise whatever a wrong key, path or format leads to.
                reason = f"{type(error).__name__}: {error}"
                raise UserError(f"suite {folder}: lm-eval cannot load {file.name}: {reason}") from None
    if not loaded:
        raise UserError(
            f"suite {folder}: no task in its YAML files; each needs at least task, dataset_path, doc_to_text"
        )
    return loaded


def load_task_questions(folder: Path) -> list[Question]:
    """The questions of a folder of lm-eval tasks, in the order of their data.

    Other settings make other questions of the same rows: what was answered to the former ones does not count for them.
    Their groups, and with them the halves, are of the rows alone.

    Raises:
        UserError: as `load_tasks`; a task of perplexities has no answers that could be right.
    """
    found: list[Question] = []
    settings = _settings(folder)
    for name, task in load_tasks(folder).items():
        if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until"):
            raise UserError(
                f"suite {folder}: task {name} has output_type {task.OUTPUT_TYPE}; only multiple_choice and "
                "generate_until give answers that can be compared"
            )
        docs = list(task.eval_docs)
        texts = [str(task.doc_to_text(doc)) for doc in docs]
        # What is asked alone may be the same for many, as "The answer is" is.
        rows = identities(map(_as_text, docs))
        shots = map(_as_text, (task.fewshot_docs() or ()) if task.config.num_fewshot else ())
        asked = hashlib.sha256("\n".join([settings, *shots]).encode()).hexdigest()[:8]
        for number, (row, text, doc) in enumerate(zip(rows, texts, docs, strict=True)):
            letters, gold = _options(task, doc)
            found.append(Question(name, f"{row}-{asked}", number, text, letters, gold, group=row))
    if not found:
        raise UserError(f"suite {folder}: holds no questions")
    return found


def _settings(folder: Path) -> str:
    """Digest of what says how the rows of the data are asked and their answers are counted."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".py") and path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _as_text(row: Any) -> str:
    return json.dumps(row, sort_keys=True, default=str)


def _options(task: Any, doc: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "generate_until":
        return (), (str(target),)
    choices = tuple(str(choice) for choice in task.doc_to_choice(doc))
    numbers = target if isinstance(target, list) else [target]
    return choices, tuple(choices[n] if isinstance(n, int) and n < len(choices) else str(n) for n in numbers)


def _with_whole_paths(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    options = dict(config.get("dataset_kwargs") or {})
    if "data_files" not in options:
        return config

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {split: whole(path) for split, path in value.items()}
        if isinstance(value, list):
            return [whole(path) for path in value]
        return str(value) if "://" in str(value) else str(folder.absolute() / value)

    return {**config, "dataset_kwargs": {**options, "data_files": whole(options["data_files"])}}
