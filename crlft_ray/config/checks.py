"""Checks that look at more than one key of a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crlft_ray.config.schema import Config

Problem = tuple[str, str, tuple[str, ...]]
"""The key to mend, what is wrong, and the other keys that were looked at."""

_SECTIONS = ("bf16", "data_types", "zero_optimization")
"""Of DeepSpeed's, those that we give it settings in."""
_OFFLOADS = ("offload_optimizer", "offload_param")
_DEVICES = ("none", "cpu", "nvme")


def cross_checks(config: Config, wrong_keys: set[str]) -> list[str]:
    """What does not go together, except where it may follow from `wrong_keys`, which are reported already."""

    def suspect(key: str) -> bool:
        return any(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in wrong_keys)

    found = [*_class_checks(config), *_size_checks(config), *_weight_checks(config), *_deepspeed_checks(config)]
    return [f"{key}: {text}" for key, text, others in found if not any(map(suspect, (key, *others)))]


def _class_checks(config: Config) -> Iterator[Problem]:
    names = config.class_names
    known = f"must be one of the classes: {', '.join(names)}"
    if config.infer_as not in names:
        yield "infer_as", f"'{config.infer_as}' {known}", ()
    given: set[str] = set()
    for number, source in enumerate(config.data.sources):
        given.update(source.class_names())
        for name in dict.fromkeys(source.class_names()):
            if name not in names:
                yield f"data.sources.{number}.class", f"'{name}' {known}", ()
    for name in names:
        if name not in given:
            text = "no source gives this class; add a source for it or drop the class"
            yield f"classes.{name}", text, ("data.sources",)


def _size_checks(config: Config) -> Iterator[Problem]:
    context, pack, batch = config.data.context, config.data.pack_tokens, config.train.global_batch_tokens
    if context > pack:
        text = (
            f"{context} is larger than data.pack_tokens = {pack}: a conversation must fit into a pack; raise "
            "data.pack_tokens or lower data.context"
        )
        yield "data.context", text, ("data.pack_tokens",)
    if batch % pack:
        text = f"{batch} is not a whole number of packs of data.pack_tokens = {pack}"
        yield "train.global_batch_tokens", text, ("data.pack_tokens",)


def _weight_checks(config: Config) -> Iterator[Problem]:
    specs = config.classes
    for name, spec in specs.items():
        if spec.weight is not None and spec.reward is not None:
            yield f"classes.{name}", "give either weight or reward, not both", ()
    rewarded = [name for name, spec in specs.items() if spec.reward is not None]
    for name, spec in specs.items():
        if rewarded and spec.reward is None:
            text = f"is required, because '{rewarded[0]}' has one; rewards and weights do not mix"
            yield f"classes.{name}.reward", text, ()
    if rewarded and config.beta is None:
        yield "beta", "is required where classes have rewards: weight = exp((reward - max reward) / beta)", ()
    if not rewarded and config.beta is not None:
        yield "beta", "has no effect without rewards; give the classes rewards or drop it", ("classes",)
    if not rewarded and not any(config.class_weights()):
        text = "all weights are 0, nothing would be learned; give one class a weight above 0"
        yield "classes", text, ()


def _deepspeed_checks(config: Config) -> Iterator[Problem]:
    """What we ourselves read of DeepSpeed's settings; all else DeepSpeed checks, when the workers start."""

    def section(name: str, value: Any, example: str = "") -> Problem:
        return f"train.deepspeed.{name}", f"must be a section with keys{example} (is {value!r})", ()

    given = config.train.deepspeed
    for name in _SECTIONS:
        if not isinstance(given.get(name, {}), dict):
            yield section(name, given[name])
    zero = given.get("zero_optimization", {})
    for name in _OFFLOADS if isinstance(zero, dict) else ():
        # DeepSpeed takes null for a section that is not there.
        offload = zero.get(name) if zero.get(name) is not None else {}
        if not isinstance(offload, dict):
            yield section(f"zero_optimization.{name}", offload, ", such as device: cpu")
        elif (device := offload.get("device", "none")) not in _DEVICES:
            text = f"must be {', '.join(_DEVICES[:-1])} or {_DEVICES[-1]} (is {device!r})"
            yield f"train.deepspeed.zero_optimization.{name}.device", text, ()
