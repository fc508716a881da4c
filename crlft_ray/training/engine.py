"""Builds the DeepSpeed ZeRO-3 engine of a rank."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from crlft_ray.config import Config
from crlft_ray.device import communication, uses_gpu
from crlft_ray.errors import UserError
from crlft_ray.model.load import add_tokens, load_model
from crlft_ray.model.packed import PackedModel
from crlft_ray.templates import ChatTokenizer
from crlft_ray.training.operators import load_operators
from crlft_ray.training.schedule import parameter_groups


def deepspeed_config(config: Config) -> dict[str, Any]:
    """Our DeepSpeed settings with the user's merged over them.

    Gradients are accumulated and communicated in fp32: in bf16 they would differ by about 1 % from one split over
    ranks to another.
    """
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        # How many micro-batches a step has varies; the loop says where a step ends.
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": config.train.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "gradient_clipping": config.train.clip,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
        "zero_optimization": {"stage": 3, "contiguous_gradients": True, **communication(config)},
    }
    return _merged(ours, config.train.deepspeed)


def import_deepspeed() -> Any:
    """DeepSpeed, without what it takes with it and nothing here uses, two seconds of a worker's start.

    Its autotuner imports MLflow; its Muon optimizer, which ZeRO-3 looks at in any case, torch's compiler.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None:
        # What the import system takes for a module that is not there.
        cast("dict[str, Any]", sys.modules)["mlflow"] = None
    try:
        import deepspeed
    finally:
        if mlflow is None:
            del sys.modules["mlflow"]
    from deepspeed.runtime import compiler

    compile_muon = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer
    finally:
        compiler.compile = compile_muon
    return deepspeed


def build_engine(config: Config, model_path: str, tokenizer: ChatTokenizer, *, universal: bool = False) -> Any:
    """The engine around a `PackedModel`; every rank calls it, the parameters are partitioned as they are loaded.

    With `universal` it loads DeepSpeed's universal checkpoints, otherwise those of the same world size.

    Raises:
        UserError: DeepSpeed does not take `train.deepspeed`; the same on every rank.
    """
    import torch
    from transformers.integrations import HfDeepSpeedConfig

    deepspeed = import_deepspeed()
    settings = {**deepspeed_config(config), "checkpoint": {"load_universal": universal}}
    offload = (settings["zero_optimization"].get("offload_optimizer") or {}).get("device", "none") != "none"
    load_operators(["ShareMemCommBuilder"] * (not uses_gpu(config)) + ["CPUAdamBuilder"] * offload)
    deepspeed.init_distributed(dist_backend=None if uses_gpu(config) else "gloo")
    # It knows how many ranks there are now.
    with refusals_named(config):
        deepspeed.DeepSpeedConfig(settings)
    # transformers partitions parameters while loading as long as this object lives.
    partitioning = HfDeepSpeedConfig(settings)
    model = load_model(model_path, config.train.precision)
    add_tokens(model, tokenizer)
    model.train()
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    packed = PackedModel(model)
    optimizer_class = deepspeed.ops.adam.DeepSpeedCPUAdam if offload else torch.optim.AdamW
    optimizer = optimizer_class(
        parameter_groups(packed, config.train.weight_decay),
        lr=0.0,
        betas=config.train.betas,
        eps=config.train.eps,
        **({} if offload else {"fused": True}),
    )
    with refusals_named(config):
        engine, *_ = deepspeed.initialize(model=packed, optimizer=optimizer, config=settings, dist_init_required=False)
    engine.partitioning = partitioning
    return engine


@contextmanager
def refusals_named(config: Config) -> Iterator[None]:
    """Turns what DeepSpeed says against its settings into a UserError that names the key in the user's config.

    Ours alone it takes, so that one who gave none has nothing to mend.
    """
    from deepspeed.runtime.config import DeepSpeedConfigError

    try:
        yield
    # Many a value it only takes for what it should be. What a machine lacks is a RuntimeError or an OSError.
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, DeepSpeedConfigError) as error:
        if not config.train.deepspeed:
            raise
        raise UserError("; ".join(_refusals(config.train.deepspeed, error))) from error


def _refusals(given: dict[str, Any], error: Exception) -> Iterator[str]:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        said = str(error).strip().splitlines()
        yield f"train.deepspeed: DeepSpeed does not take it: {': '.join([type(error).__name__, *said[:1]])}"
        return
    for detail in error.errors():
        key = _key(given, detail["loc"], detail["input"])
        reason = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
        value = f" (is {detail['input']!r})" if key else ""
        yield f"{'.'.join(['train.deepspeed', *key])}: DeepSpeed does not take it: {reason}{value}"


def _key(given: Any, end: Sequence[int | str], value: Any) -> list[str]:
    """Where in `given` that value stands under `end`: DeepSpeed says where in a section it is, but not in which."""
    if not isinstance(given, dict) or not end:
        return []
    node: Any = given
    for part in end:
        node = node.get(part) if isinstance(node, dict) else None
    if end[0] in given and node == value:
        return [str(part) for part in end]
    for name, section in given.items():
        if found := _key(section, end, value):
            return [str(name), *found]
    return []


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
