"""Checks that look at more than one key of a config."""

from __future__ import annotations

from collections.abc import Iterator

from crlft_ray.config.schema import Config

Problem = tuple[str, str, tuple[str, ...]]
"""The key to mend, what is wrong, and the other keys that were looked at."""


def cross_checks(config: Config, wrong_keys: set[str]) -> list[str]:
    """What does not go together, except where it may follow from `wrong_keys`, which are reported already."""

    def suspect(key: str) -> bool:
        return any(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in wrong_keys)

    found = [*_class_checks(config), *_size_checks(config), *_weight_checks(config)]
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
