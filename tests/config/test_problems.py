"""Every mistake in a config is named at once, by the key in the file and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from crlft_ray.config import validate
from crlft_ray.errors import UserError
from tests.synthetic import raw_config


def problems(raw: dict[str, Any]) -> dict[str, str]:
    """Key → message, from the one error that is raised."""
    with pytest.raises(UserError) as caught:
        validate(raw, "run.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == f"run.yaml: {len(lines)} thing(s) to mend:"
    keys = [line.strip().partition(": ")[0] for line in lines]
    assert len(set(keys)) == len(keys), f"two lines about one key: {lines}"
    return {key: line.strip().partition(": ")[2] for key, line in zip(keys, lines, strict=True)}


def changed(**sections: Any) -> dict[str, Any]:
    return raw_config("model", "out", "data.jsonl", **sections)


ONE_CLASS = {"path": "a.jsonl", "class": "expert"}


@pytest.mark.parametrize(
    ("sections", "key", "says"),
    [
        ({"train": {"lr": "fast"}}, "train.lr", "auto or a number above 0 (is 'fast')"),
        ({"train": {"lr": 0}}, "train.lr", "auto or a number above 0"),
        ({"train": {"lr": float("nan")}}, "train.lr", "auto or a number above 0"),
        ({"train": {"workers": "two"}}, "train.workers", "valid integer (is 'two')"),
        ({"train": {"workers": True}}, "train.workers", "valid integer (is True)"),
        ({"train": {"workers": 0}}, "train.workers", "greater than or equal to 1"),
        ({"train": {"workers": {"min": 3, "max": 2}}}, "train.workers", "max = 2 is less than min = 3"),
        ({"train": {"workers": {"min": 0, "max": 2}}}, "train.workers.min", "greater than or equal to 1"),
        ({"train": {"workers": {"min": 1}}}, "train.workers.max", "is required"),
        ({"train": {"epochs": 1.5}}, "train.epochs", "valid integer"),
        ({"train": {"betas": [0.9]}}, "train.betas.1", "is required"),
        ({"train": {"betas": [0.9, 1.0]}}, "train.betas.1", "less than 1"),
        ({"train": {"clip": float("inf")}}, "train.clip", "finite"),
        ({"train": {"precision": "fp16"}}, "train.precision", "'auto', 'bf16' or 'fp32'"),
        ({"train": {"worker": 3}}, "train.worker", "unknown key"),
        ({"train": {"deepspeed": 3}}, "train.deepspeed", "a section with keys"),
        ({"train": {"deepspeed": {"zero_optimization": None}}}, "train.deepspeed.zero_optimization", "keys (is None)"),
        ({"train": {"deepspeed": {"zero_optimization": True}}}, "train.deepspeed.zero_optimization", "keys (is True)"),
        ({"train": {"deepspeed": {"bf16": "on"}}}, "train.deepspeed.bf16", "a section with keys (is 'on')"),
        (
            {"train": {"deepspeed": {"zero_optimization": {"offload_optimizer": "cpu"}}}},
            "train.deepspeed.zero_optimization.offload_optimizer",
            "a section with keys, such as device: cpu (is 'cpu')",
        ),
        (
            {"train": {"deepspeed": {"zero_optimization": {"offload_param": {"device": "gpu"}}}}},
            "train.deepspeed.zero_optimization.offload_param.device",
            "none, cpu or nvme (is 'gpu')",
        ),
        ({"train": 3}, "train", "a section with keys (is 3)"),
        ({"train": {"global_batch_tokens": 1000}}, "train.global_batch_tokens", "not a whole number of packs"),
        ({"data": {"context": 513}}, "data.context", "larger than data.pack_tokens = 512"),
        ({"data": {"holdout": 1}}, "data.holdout", "less than 1"),
        ({"data": {"sources": []}}, "data.sources", "must not be empty"),
        ({"data": {"sources": ["a.jsonl"]}}, "data.sources.0", "a section with keys (is 'a.jsonl')"),
        ({"data": {"sources": [{**ONE_CLASS, "format": "alpaca"}]}}, "data.sources.0.format", "'sharegpt'"),
        ({"data": {"sources": [{**ONE_CLASS, "sample": 0}]}}, "data.sources.0.sample", "greater than 0"),
        ({"data": {"sources": [{**ONE_CLASS, "repeat": 1.5}]}}, "data.sources.0.repeat", "valid integer"),
        ({"data": {"sources": [{**ONE_CLASS, "path": ""}]}}, "data.sources.0.path", "must not be empty"),
        ({"data": {"sources": [{"path": "a"}]}}, "data.sources.0.class", "is required"),
        ({"data": {"sources": [{"path": "a", "class": 5}]}}, "data.sources.0.class", "a class name or a rule"),
        ({"data": {"sources": [{"path": "a", "class": {"map": {}}}]}}, "data.sources.0.class.field", "is required"),
        ({"data": {"sources": [{"path": "a", "class": {"field": "x"}}]}}, "data.sources.0.class", "exactly one of"),
        ({"infer_as": "best"}, "infer_as", "must be one of the classes: expert, mixed"),
        ({"infer_as": 4}, "infer_as", "valid string"),
        ({"output": ""}, "output", "must not be empty"),
        ({"beta": 1.0}, "beta", "no effect without rewards"),
        ({"template": "alpaca"}, "template", "'openchat', 'llama3' or 'chatml'"),
        ({"template": 5}, "template", "or a template of your own"),
        ({"template": {"role_prefix": "{condition} {role}"}}, "template.end_of_turn", "is required"),
        (
            {"template": {"role_prefix": "{role}", "end_of_turn": "<e>"}},
            "template.role_prefix",
            "must contain {condition}",
        ),
        ({"classes": {"expert": {"weight": -0.1}}}, "classes.expert.weight", "greater than or equal to 0"),
        ({"classes": {"expert": {"weight": float("nan")}}}, "classes.expert.weight", "finite"),
        ({"classes": {"expert": {"weight": "1"}}}, "classes.expert.weight", "valid number (is '1')"),
        ({"classes": {"expert": {"condition": " GPT4"}}}, "classes.expert.condition", "write 'GPT4'"),
        ({"classes": {"expert": {"weight": 0}, "mixed": {"weight": 0.0}}}, "classes", "all weights are 0"),
        ({"classes": {"lost": {}}}, "classes.lost", "no source gives this class"),
        ({"classes": {"expert": {"weight": 1, "reward": 1}, "mixed": {"reward": 0}}, "beta": 1.0}, "classes.expert",
         "either weight or reward"),
    ],
)  # fmt: skip
def test_one_mistake_gives_one_line(sections: dict[str, Any], key: str, says: str) -> None:
    found = problems(changed(**sections))
    assert list(found) == [key]
    assert says in found[key]


@pytest.mark.parametrize(
    "zero",
    [
        {"offload_optimizer": None, "offload_param": None},
        {"offload_optimizer": {"pin_memory": True}, "offload_param": {"device": "nvme"}},
    ],
)
def test_offloads_that_deepspeed_takes(zero: dict[str, Any]) -> None:
    config = validate(changed(train={"deepspeed": {"zero_optimization": zero}}), "run.yaml")
    assert config.train.deepspeed["zero_optimization"] == zero


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ({"expert": [5, 10], "mixed": [1, 5]}, "overlap at 5"),
        ({"expert": [10, 8], "mixed": [1, 7]}, "10 is above 8"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(spans: dict[str, list[int]], says: str) -> None:
    rule = {"field": "rating", "ranges": spans}
    assert says in problems(changed(data={"sources": [{"path": "a", "class": rule}]}))["data.sources.0.class"]


def test_a_class_that_no_config_section_defines() -> None:
    rule = {"field": "x", "map": {"a": "expert", "b": "mixed", "c": "third"}}
    found = problems(changed(data={"sources": [{"path": "a", "class": rule}]}))
    assert found == {"data.sources.0.class": "'third' must be one of the classes: expert, mixed"}


def test_mistakes_of_all_kinds_come_together() -> None:
    found = problems(
        changed(
            output=7,
            template="alpaca",
            infer_as="best",
            extra=1,
            classes={"expert": {"weight": 0}, "mixed": {"weight": 0}},
            data={"context": 9999},
            train={"lr": "fast", "worker": 2, "betas": [0.9, 2]},
        )
    )
    anywhere = {"output", "template", "infer_as", "extra", "classes", "data.context"}
    assert set(found) == anywhere | {"train.lr", "train.worker", "train.betas.1"}


def test_nothing_is_reported_that_only_follows_from_another_mistake() -> None:
    """A wrong key is not in the config that the cross-checks see; what they say about it would mislead."""
    assert set(problems(changed(data={"pack_tokens": "many"}, train={"global_batch_tokens": 512 * 3}))) == {
        "data.pack_tokens"
    }
    classes = {"expert": {"reward": "high"}, "mixed": {"reward": 0.0}}
    assert set(problems(changed(classes=classes, beta=0.5))) == {"classes.expert.reward"}
    classes = {"expert": {"weight": "1"}, "mixed": {"weight": 0}}
    assert set(problems(changed(classes=classes))) == {"classes.expert.weight"}
    assert set(problems(changed(data={"sources": [{"path": "a"}]}))) == {"data.sources.0.class"}


def test_class_names_may_look_like_types() -> None:
    """Error paths of unions hold type names; a class of such a name must not vanish from its key."""
    classes = {"str": {"weight": -1}, "text": {"weight": -1}, "float": {"nope": 1}}
    assert {"classes.str.weight", "classes.text.weight", "classes.float.nope"} <= set(
        problems(changed(classes=classes))
    )


def test_missing_keys() -> None:
    assert problems({}) == dict.fromkeys(["model", "output", "classes", "infer_as", "data"], "is required")


@pytest.mark.parametrize("raw", [{1: 2}, {"classes": []}, {"classes": {1: {}}}, {"data": []}, {"data": {"sources": 4}}])
def test_any_nonsense_is_a_user_error(raw: dict[Any, Any]) -> None:
    with pytest.raises(UserError):
        validate({**changed(), **raw}, "run.yaml")
