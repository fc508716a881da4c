"""Spreads questions over the cluster: a worker loads the model once, and whoever is free gets the next ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crlft_ray.config.train import Precision
from crlft_ray.errors import UserError
from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.asking.engine import Engine
from crlft_ray.evaluation.suites import Question, Suite
from crlft_ray.evaluation.way import Way
from crlft_ray.model.find import model_folder
from crlft_ray.tracking import mlflow_environment

_CHUNKS_PER_WORKER = 12
"""How finely the questions are divided, so that all workers finish together."""


@dataclass(frozen=True)
class Asked:
    """A suite that a model is asked in one way."""

    model: str
    """As `absolute_model` has it."""
    suite: Suite
    way: Way


class _Asker:
    """The actor: has one model at a time, and loads each once, as the questions to one come in a row."""

    def __init__(self, threads: int, precision: Precision) -> None:
        self._threads, self._precision = threads, precision
        self._model = ""
        self._engine: Engine | None = None

    def take_access(self, environment: dict[str, str]) -> None:
        """With the driver's `mlflow_environment()` a model of the registry is fetched here."""
        os.environ.update(environment)

    def ask(self, number: int, asked: Asked, questions: Sequence[Question]) -> tuple[int, list[Answer] | UserError]:
        try:
            if self._engine is None or self._model != asked.model:
                # The former model goes before the next one comes.
                self._engine = None
                folder = model_folder(asked.model)
                self._engine = Engine(folder, threads=self._threads, precision=self._precision)
                self._model = asked.model
            return number, self._engine.ask(asked.suite, asked.way, questions)
        except UserError as error:
            # Raised, it would come back wrapped and with a trace.
            return number, error


def ask_all(
    wanted: Mapping[Asked, Sequence[Question]],
    take: Callable[[Asked, list[Answer]], None],
    *,
    threads: int,
    precision: Precision,
) -> None:
    """Puts questions to their models, one model after the other; `take` gets answers as they come in.

    A worker has a GPU where the cluster has GPUs, otherwise `threads` CPUs; there are as many as fit.

    Args:
        wanted: the questions that are asked, out of each suite.
        take: gets what was asked and some of its answers.
        threads: CPU threads of a worker without a GPU.
        precision: number format of the weights.

    Raises:
        UserError: a model cannot be loaded or asked, or no node has the CPUs for a worker.
    """
    import ray
    from ray.util import ActorPool

    resources, workers = asker_resources(threads)
    parts = workers * _CHUNKS_PER_WORKER
    chunks = [(asked, chunk) for asked, questions in wanted.items() for chunk in divide(questions, parts)]
    order = {model: place for place, model in enumerate(dict.fromkeys(asked.model for asked in wanted))}
    # Of each model the longest first: what is left at the end is short.
    chunks.sort(key=lambda chunk: (order[chunk[0].model], -_cost(chunk[1])))
    kept = {asked: ray.put(asked) for asked in wanted}
    actor: Any = ray.remote(**resources)(_Asker)
    actors = [actor.remote(threads, precision) for _ in range(min(workers, len(chunks)))]
    for each in actors:
        each.take_access.remote(mlflow_environment())
    try:
        pool = ActorPool(actors)
        for number, answers in pool.map_unordered(
            lambda one, n: one.ask.remote(n, kept[chunks[n][0]], chunks[n][1]), range(len(chunks))
        ):
            if isinstance(answers, UserError):
                raise answers
            take(chunks[number][0], answers)
    finally:
        for each in actors:
            ray.kill(each)


def divide(questions: Sequence[Question], parts: int) -> list[list[Question]]:
    """About `parts` parts of the same cost; questions on one passage, most of which is computed once, stay together."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    enough = _cost(questions) / parts
    found: list[list[Question]] = []
    for group in groups.values():
        if not found or _cost(found[-1]) >= enough:
            found.append([])
        found[-1] += group
    return found


def _cost(questions: Sequence[Question]) -> int:
    """Characters that a model must read; tokens grow with them."""
    return sum(len(question.text) for question in questions)


def asker_resources(threads: int) -> tuple[dict[str, float], int]:
    """What a worker asks of Ray, and how many of them there are.

    Raises:
        UserError: no node has the CPUs for one.
    """
    import ray

    from crlft_ray.capacity import room_for
    from crlft_ray.ray_session import task_slots

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus:
        return {"num_gpus": 1, "num_cpus": 1}, gpus
    room = room_for({"CPU": threads})
    if not room:
        raise UserError(f"threads: no node of this cluster has {threads} CPUs for a worker; give fewer threads")
    return {"num_cpus": threads}, min(room, max(1, task_slots() // threads))
