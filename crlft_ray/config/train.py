"""`train`: from shards to checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from crlft_ray.config.section import Section

Precision = Literal["bf16", "fp32"]
AskedPrecision = Literal["auto", "bf16", "fp32"]
Beta = Annotated[float, Field(ge=0, lt=1)]


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
    precision: AskedPrecision = "auto"
    """auto: what the run began with, and at first bf16, but fp32 on CPUs that cannot multiply bf16."""
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
