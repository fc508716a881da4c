"""The ZeRO-3 settings that decide memory and communication, read as DeepSpeed reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crlft_ray.config import Config
from crlft_ray.errors import UserError
from crlft_ray.planning.residency import Rules

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Zero:
    """Sizes are in elements, as in DeepSpeed."""

    parameter_bytes: int
    gradient_bytes: int
    """Of one element where gradients accumulate."""
    reduce_bytes: int
    """Of one element where gradients are sent."""
    reduce_bucket: int
    sub_group: int
    rules: Rules
    """Of gathering."""
    offload_optimizer: bool
    offload_parameters: bool
    overlap: bool
    """Communication goes on beside computation."""


def zero_settings(config: Config) -> Zero:
    """What `build_engine` would hand to DeepSpeed for this config.

    Raises:
        UserError: DeepSpeed does not take `train.deepspeed`, or it asks for another stage than 3.
    """
    from pydantic import ValidationError

    from crlft_ray.training.engine import deepspeed_config, import_deepspeed

    known = import_deepspeed().runtime.zero.config.DeepSpeedZeroConfig
    settings = deepspeed_config(config)
    try:
        zero = known(**settings["zero_optimization"])
    except (ValidationError, TypeError) as error:
        reason = str(error).strip().replace("\n", "; ")
        raise UserError(f"train.deepspeed.zero_optimization: DeepSpeed does not take it: {reason}") from None
    if int(zero.stage) != 3:
        raise UserError(f"train.deepspeed.zero_optimization.stage: {int(zero.stage)}; a plan knows stage 3 alone")
    return Zero(
        parameter_bytes=_BYTES[config.train.precision],
        gradient_bytes=_bytes_of("data_types.grad_accum_dtype", settings["data_types"]["grad_accum_dtype"]),
        reduce_bytes=_bytes_of("communication_data_type", settings["communication_data_type"]),
        reduce_bucket=int(zero.reduce_bucket_size),
        sub_group=int(zero.sub_group_size),
        rules=Rules(
            prefetch_bucket=int(zero.prefetch_bucket_size),
            persistence=int(zero.param_persistence_threshold),
            model_persistence=int(zero.model_persistence_threshold),
            max_live=int(zero.max_live_parameters),
            max_reuse=int(zero.max_reuse_distance),
        ),
        offload_optimizer=_offloads(zero.offload_optimizer),
        offload_parameters=_offloads(zero.offload_param),
        overlap=bool(zero.overlap_comm),
    )


def _bytes_of(key: str, dtype: str) -> int:
    if dtype not in _BYTES:
        raise UserError(f"train.deepspeed.{key}: '{dtype}' is not one of {', '.join(_BYTES)}")
    return _BYTES[dtype]


def _offloads(section: Any) -> bool:
    return section is not None and section.device != "none"
