"""The shape of a run's YAML file. Every model refuses keys it does not know."""

from __future__ import annotations

import itertools
import json
import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

Precision = Literal["bf16", "fp32"]
Format = Literal["openchat", "messages", "sharegpt"]
TemplateName = Literal["openchat", "llama3", "chatml"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, numbers are finite, and text or `true` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


def _text_or_section(value: Any) -> str | None:
    """Which branch of a union of text and section a value is meant for; errors then speak of that one alone."""
    return "text" if isinstance(value, str) else "section" if isinstance(value, dict | Section) else None


def _either(kind: str, section: str) -> Discriminator:
    return Discriminator(
        _text_or_section, custom_error_type="either", custom_error_message=f"must be {kind} or {section}"
    )


class ClassSpec(Section):
    """One source class: the text that conditions the model on it, and what its tokens weigh in the loss."""

    condition: str = ""
    """Text in the role prefixes of this class's conversations; empty for none."""
    weight: float | None = Field(None, ge=0)
    """Factor on the loss of the class's learned tokens; only the ratios between classes matter."""
    reward: float | None = None
    """Instead of a weight: a coarse reward, weight = exp((reward - max reward) / beta)."""

    @field_validator("condition")
    @classmethod
    def _stripped(cls, condition: str) -> str:
        if condition != condition.strip():
            raise ValueError(f"has white space at its ends: write {condition.strip()!r}")
        return condition


class CustomTemplate(Section):
    """A chat template of the user's own, for tokenizers that none of the named ones fits."""

    role_prefix: str
    """Text before a message; must contain {role} (or {Role}, capitalised), and {condition} where it belongs."""
    end_of_turn: str = Field(min_length=1)
    """Token after every message; added to the tokenizer if it has none of that name."""
    after_turn: str = ""
    """Text after the end of turn, such as a line break."""

    @field_validator("role_prefix")
    @classmethod
    def _has_role(cls, prefix: str) -> str:
        if "{role}" not in prefix and "{Role}" not in prefix:
            raise ValueError("must contain {role}, for instance '<|{condition} {role}|>'")
        if "{condition}" not in prefix:
            raise ValueError("must contain {condition}, for instance '<|{condition} {role}|>'")
        return prefix


def value_text(value: Any) -> str:
    """A field's value as the keys of `map` spell it: 1, true, GPT4."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


class ClassByField(Section):
    """Takes a row's class from one of its fields: by its value (`map`) or by the range it lies in (`ranges`)."""

    field: str
    map: dict[str, str] | None = None
    """Value of the field → class name."""
    ranges: dict[str, Annotated[tuple[float, float], Strict(False)]] | None = None
    """Class name → [lowest, highest] value, both inclusive."""

    @field_validator("map", mode="before")
    @classmethod
    def _keys_as_text(cls, map: Any) -> Any:
        """In YAML `1:` and `true:` are no text, but a field may well hold them."""
        return {value_text(key): name for key, name in map.items()} if isinstance(map, dict) else map

    @model_validator(mode="after")
    def _one_of(self) -> ClassByField:
        if (self.map is None) == (self.ranges is None):
            raise ValueError("needs exactly one of 'map' (value: class) and 'ranges' (class: [lowest, highest])")
        spans = sorted((low, high, name) for name, (low, high) in (self.ranges or {}).items())
        for low, high, name in spans:
            if low > high:
                raise ValueError(f"ranges.{name}: {low:g} is above {high:g}; write [lowest, highest]")
        for (_, high, first), (low, _, second) in itertools.pairwise(spans):
            if low <= high:
                raise ValueError(f"ranges of '{first}' and '{second}' overlap at {low:g}")
        return self

    def class_names(self) -> list[str]:
        """The classes this rule can give."""
        return list(self.map.values()) if self.map is not None else list(self.ranges or {})


class Source(Section):
    """Where conversations lie and how their class is known."""

    path: str = Field(min_length=1)
    """A file, a glob, a folder or a fetched name; local, or a URI that pyarrow's filesystems open."""
    format: Format = "messages"
    class_: Annotated[
        Annotated[str, Tag("text")] | Annotated[ClassByField, Tag("section")],
        _either("a class name", "a rule such as {field: rating, ranges: {expert: [8, 10]}}"),
    ] = Field(alias="class")
    """A class name for all rows, or a rule over a field."""
    message_weights: Literal["learn", "keep"] = "learn"
    """What a message's own weight means: `learn`: not 0 is learned; `keep`: it multiplies the class's weight too."""
    sample: float = Field(1.0, gt=0, le=1)
    """Share of the conversations to take, chosen by their hash."""
    repeat: int = Field(1, ge=1)
    """How often each conversation occurs in an epoch."""

    model_config = ConfigDict(populate_by_name=True)

    def class_names(self) -> list[str]:
        """The classes this source can give."""
        return [self.class_] if isinstance(self.class_, str) else self.class_.class_names()


class Data(Section):
    """From conversations to shards."""

    sources: list[Source] = Field(min_length=1)
    holdout: float = Field(0.02, ge=0, lt=1)
    """Share of the conversations kept for evaluation, chosen by their hash."""
    context: int = Field(2048, ge=8)
    """Longest conversation in tokens; longer ones are truncated and counted."""
    pack_tokens: int = Field(4096, ge=8)
    """Slots of one pack, which is one micro-batch."""
    max_rejected: float = Field(0.01, ge=0, le=1)
    """Share of rows that may be rejected before `prepare` stops."""


class WorkerRange(Section):
    """Elastic workers: as many as the cluster has, between two bounds."""

    min: int = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> WorkerRange:
        if self.max < self.min:
            raise ValueError(f"max = {self.max} is less than min = {self.min}")
        return self


def _number_or_section(value: Any) -> str:
    return "section" if isinstance(value, dict | WorkerRange) else "number"


class Train(Section):
    """From shards to checkpoints."""

    workers: Annotated[
        Annotated[int, Field(ge=1), Tag("number")] | Annotated[WorkerRange, Tag("section")],
        Discriminator(_number_or_section),
    ] = 1
    """Ray Train workers, one ZeRO-3 rank each (world size); {min, max}: as many as the cluster has at the time."""
    threads_per_worker: int = Field(1, ge=1)
    """CPU threads of torch in each worker."""
    resources_per_worker: dict[str, float] = Field(default_factory=dict)
    """Ray resources of each worker, such as {GPU: 1}; CPU defaults to threads_per_worker."""
    global_batch_tokens: int = Field(16384, ge=8)
    """Slots of one optimizer step over all ranks; a whole number of packs."""
    epochs: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1)
    lr: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    """Peak learning rate; auto: base_lr · sqrt(learned tokens a step / 4e6)."""
    base_lr: float = Field(3.0e-4, gt=0)
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    final_lr: float = Field(0.1, ge=0, le=1)
    """Where the cosine ends, as a share of the peak."""
    weight_decay: float = Field(0.1, ge=0)
    betas: Annotated[tuple[Beta, Beta], Strict(False)] = (0.9, 0.95)
    eps: float = Field(1.0e-5, gt=0)
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    per_sequence: bool = False
    """Divide each message's weight by its number of learned tokens (the original's per-sequence loss)."""
    precision: Precision = "bf16"
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(50, ge=1)
    """Steps between checkpoints; one more is written at each epoch's end."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept; the best by held-out loss is kept besides, where `evaluate.every` measures it."""
    max_failures: int = Field(3, ge=0)
    """Restarts from the newest checkpoint after a worker dies."""
    collective_timeout: float = Field(600.0, gt=0)
    """Seconds a rank waits for the others before the run fails and names the missing one."""
    seed: int = Field(0, ge=0)
    deepspeed: dict[str, Any] = Field(default_factory=dict)
    """Any DeepSpeed setting, merged over ours (offload, bucket sizes, …)."""

    @property
    def least_workers(self) -> int:
        """Workers without which the run cannot go on."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @field_validator("lr", mode="wrap")
    @classmethod
    def _one_message(cls, lr: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(lr)
        except ValidationError:
            raise ValueError(f"must be auto or a number above 0 (is {lr!r})") from None


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
    """One run: model, classes, data, training, evaluation, registry, tracking."""

    model_config = ConfigDict(populate_by_name=True)

    model: str = Field(min_length=1)
    """A hub id, a folder, or a fetched name."""
    output: str = Field(min_length=1)
    template: Annotated[
        Annotated[TemplateName, Tag("text")] | Annotated[CustomTemplate, Tag("section")],
        _either("openchat, llama3, chatml", "a template of your own: {role_prefix: ..., end_of_turn: ...}"),
    ] = "openchat"
    classes: dict[str, ClassSpec] = Field(min_length=1, max_length=127)
    beta: float | None = Field(None, gt=0)
    """Temperature of the rewards, where classes give rewards instead of weights."""
    infer_as: str
    """The class whose condition the exported model uses by default."""
    data: Data
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
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
