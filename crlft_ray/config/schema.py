"""The shape of a run's YAML file. Every section refuses keys it does not know."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import ConfigDict, Field, Tag

from crlft_ray.config.classes import ClassSpec, CustomTemplate, TemplateName
from crlft_ray.config.data import Data
from crlft_ray.config.section import Section, either
from crlft_ray.config.train import Train
from crlft_ray.config.tune import Tune


class Evaluate(Section):
    """From an export to scores."""

    suites: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=lambda: ["agieval"])
    """agieval, bbh (each also with `:generate`), a fetched name, or a folder of lm-eval task files."""
    limit: int | None = Field(None, ge=1)
    """Questions per task; null for all."""
    heldout: int | None = Field(None, ge=1)
    """Held-out conversations per class; null for all."""
    every: int = Field(0, ge=0)
    """Steps between held-out evaluations in training; 0 for none."""


class Register(Section):
    """From an export to the registry, through the gate."""

    name: str | None = Field(None, min_length=1)
    """Registered model; null: `crlft run` registers nothing."""
    level: float = Field(0.05, gt=0, lt=1)
    """Largest p-value (one-sided) at which the model counts as better than its base."""
    suite: str = Field("agieval", min_length=1)
    """What the gate compares on: its half of this suite's questions."""


class Tracking(Section):
    """Where MLflow keeps the run."""

    uri: str | None = None
    """Tracking server; null: SQLite beside the output."""
    experiment: str = "crlft"


class Config(Section):
    """One run: model, classes, data, training, evaluation, study, registry, tracking."""

    model_config = ConfigDict(populate_by_name=True)

    model: str = Field(min_length=1)
    """A hub id, a folder, or a fetched name."""
    output: str = Field(min_length=1)
    template: Annotated[
        Annotated[TemplateName, Tag("text")] | Annotated[CustomTemplate, Tag("section")],
        either("openchat, llama3, chatml", "a template of your own: {role_prefix: ..., end_of_turn: ...}"),
    ] = "openchat"
    classes: dict[str, ClassSpec] = Field(min_length=1, max_length=127)
    beta: float | None = Field(None, gt=0)
    """Temperature of the rewards, where classes give rewards instead of weights."""
    infer_as: str
    """The class whose condition the exported model uses by default."""
    data: Data
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    tune: Tune = Tune()
    register_: Register = Field(Register(), alias="register")
    """`register` in the file; pydantic's models have a method of that name."""
    tracking: Tracking = Tracking()

    @property
    def class_names(self) -> list[str]:
        """Class names in the config's order; a shard's `class` column indexes them."""
        return list(self.classes)

    def class_weights(self) -> list[float]:
        """Loss weights in the order of `class_names`, from weights or from rewards and beta (paper, eq. 6)."""
        specs = list(self.classes.values())
        if any(spec.reward is not None for spec in specs):
            assert self.beta is not None
            rewards = [spec.reward if spec.reward is not None else 0.0 for spec in specs]
            return [math.exp((reward - max(rewards)) / self.beta) for reward in rewards]
        return [1.0 if spec.weight is None else spec.weight for spec in specs]

    def condition(self, class_name: str | None = None) -> str:
        """The condition of a class; of `infer_as` by default."""
        return self.classes[class_name or self.infer_as].condition
