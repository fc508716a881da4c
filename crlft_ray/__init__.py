"""Fine-tune a language model on conversations of mixed quality, on a Ray cluster, with C-RLFT.

Every command of the CLI is a function here with the same name and parameters; they are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crlft_ray.ablation.study import study_ablation
    from crlft_ray.assets import fetch
    from crlft_ray.config import Config, load_config
    from crlft_ray.diagnosis.examine import doctor
    from crlft_ray.errors import UserError
    from crlft_ray.evaluation.evaluate import evaluate
    from crlft_ray.inspection import inspect
    from crlft_ray.pipeline import run
    from crlft_ray.planning.plan_of import plan
    from crlft_ray.registry.register import register
    from crlft_ray.shards.prepare import prepare
    from crlft_ray.talk import chat
    from crlft_ray.training.train import train
    from crlft_ray.tuning.study import tune

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "UserError": "errors",
    "chat": "talk",
    "doctor": "diagnosis.examine",
    "evaluate": "evaluation.evaluate",
    "fetch": "assets",
    "inspect": "inspection",
    "load_config": "config",
    "plan": "planning.plan_of",
    "prepare": "shards.prepare",
    "register": "registry.register",
    "run": "pipeline",
    "study_ablation": "ablation.study",
    "train": "training.train",
    "tune": "tuning.study",
}

__all__ = [
    "Config", "UserError", "chat", "doctor", "evaluate", "fetch", "inspect", "load_config", "plan", "prepare",
    "register", "run", "study_ablation", "train", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'crlft_ray' has no attribute '{name}'")
    # No module has the name of one of these functions: importing it would put the module in the function's place.
    return getattr(import_module(f"crlft_ray.{_HOMES[name]}"), name)
