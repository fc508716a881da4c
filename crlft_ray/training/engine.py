"""Builds the DeepSpeed ZeRO-3 engine of a rank."""

from __future__ import annotations

import sys
from typing import Any, cast

from crlft_ray.config import Config
from crlft_ray.device import communication, uses_gpu
from crlft_ray.model.load import add_tokens, load_model
from crlft_ray.model.packed import PackedModel
from crlft_ray.templates import ChatTokenizer
from crlft_ray.training.operators import load_operators
from crlft_ray.training.refusals import check_settings, refusals_named
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
        "zero_optimization": {
            "stage": 3,
            "contiguous_gradients": True,
            # The optimizer takes a copy of a group's gradients; by default of all that a rank has.
            "sub_group_size": 10_000_000,
            **communication(config),
        },
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

    With `universal` it loads DeepSpeed's universal checkpoints, otherwise those of the same layout.

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
    check_settings(config, settings)
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


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
