"""The YAML file, `--set`, weights from rewards, and the way back to YAML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crlft_ray.config import Config, dump_config, load_config, read_config, validate
from crlft_ray.config.text import parse_yaml, to_yaml
from crlft_ray.errors import UserError
from crlft_ray.storage import Place
from tests.synthetic import raw_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw_config("model", "out", "data.jsonl")), encoding="utf-8")
    return path


def value_at(config: Config, key: str) -> Any:
    node: Any = config.model_dump(by_alias=True)
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.workers=4", 4),
        ("train.lr=1e-4", 1e-4),
        ("train.lr=auto", "auto"),
        ("train.base_lr=3E-4", 3e-4),
        ("train.max_steps=", None),
        ("train.per_sequence=true", True),
        ("train.betas=[8e-1, 0.99]", (0.8, 0.99)),
        ("train.resources_per_worker={GPU: 1}", {"GPU": 1.0}),
        ("train.deepspeed.zero_optimization.reduce_bucket_size=5e7", 5e7),
        ("evaluate.limit=8", 8),
        ("evaluate.suites=[]", []),
        ("tracking.uri=http://host:5000/a=b", "http://host:5000/a=b"),
        ("tracking.experiment=nan", "nan"),
        ("classes.expert.condition=GPT4 Correct", "GPT4 Correct"),
        ("classes.mixed.weight=0.5", 0.5),
        ("data.sources.0.path=other.jsonl", "other.jsonl"),
        ("data.sources.0.class.ranges.expert=[9, 10]", (9, 10)),
        ("template={role_prefix: '{condition} {role}> ', end_of_turn: <e>}",
         {"role_prefix": "{condition} {role}> ", "end_of_turn": "<e>", "after_turn": ""}),
    ],
)  # fmt: skip
def test_set(file: Path, override: str, expected: Any) -> None:
    found = value_at(load_config(file, [override]), override.partition("=")[0])
    assert found == expected
    assert type(found) is type(expected)


def test_set_opens_sections_that_the_file_leaves_out(file: Path) -> None:
    file.write_text(file.read_text() + "evaluate:\n")
    assert load_config(file, ["tracking.experiment=mine", "evaluate.every=5"]).evaluate.every == 5


def test_later_settings_win(file: Path) -> None:
    assert load_config(file, ["train.workers=4", "train.workers=5"]).train.workers == 5


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.workers", "write key.path=value"),
        ("=4", "write key.path=value"),
        ("train..workers=4", "write key.path=value"),
        ("train.workers=[1", "not valid YAML"),
        ("model.name=x", "'model' holds a value, not a section"),
        ("data.sources.1.path=x", "a number from 0 to 0"),
        ("data.sources.first.path=x", "a number from 0 to 0"),
        ("data.sources.0=", "data.sources.0: must be a section with keys (is None)"),
        ("train.workrs=4", "train.workrs: unknown key"),
        ("train.workers=many", "train.workers: must be a valid integer (is 'many')"),
    ],
)
def test_a_wrong_set_says_what_to_write(file: Path, override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, [override])
    assert says in str(caught.value)


def test_an_empty_place_in_a_list_becomes_a_section(file: Path) -> None:
    with pytest.raises(UserError, match=r"data.sources.0.class: is required"):
        load_config(file, ["data.sources=[null]", "data.sources.0.path=x"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("- a\n", "holds a list"),
        ("a: [\n", "not valid YAML"),
        ("model: a\nmodel: b\n", "'model' is given twice"),
        ("classes:\n  expert: {weight: 1}\n  expert: {weight: 2}\n", "'expert' is given twice"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"), [("a: [\n", "not valid YAML"), ("", "is empty"), ("train: {lr: 1e-4}\n", "model: is required")]
)
def test_a_runs_own_config_that_was_changed_by_hand(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(Place.of(path))
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "train.lr" not in str(caught.value), "1e-4 is a number there, too"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model: \xe9\xff")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path / "latin.yaml")


rewards = st.floats(-1e6, 1e6)


@given(st.lists(rewards, min_size=2, max_size=5), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_weights_from_rewards(values: list[float], beta: float, shift: float) -> None:
    weights = _weights(values, beta)
    assert max(weights) == 1.0
    assert all(math.isfinite(weight) and weight >= 0 for weight in weights)
    best = max(values)
    for value, weight in zip(values, weights, strict=True):
        assert weight == pytest.approx(math.exp((value - best) / beta), rel=1e-12)
    # Only differences of rewards matter.
    assert _weights([value + shift for value in values], beta) == pytest.approx(weights, rel=1e-3, abs=1e-9)


def _weights(values: list[float], beta: float) -> list[float]:
    names = [f"class{number}" for number in range(len(values))]
    raw = raw_config("m", "o", "d", beta=beta, infer_as=names[0])
    raw["classes"] = {name: {"reward": value} for name, value in zip(names, values, strict=True)}
    raw["data"]["sources"] = [{"path": "d", "class": name} for name in names]
    return validate(raw, "test").class_weights()


def test_the_published_weights_as_rewards() -> None:
    assert _weights([1.0, 0.1], 0.9 / math.log(10)) == pytest.approx([1.0, 0.1])


def test_weights_default_to_one_and_keep_the_classes_order() -> None:
    raw = raw_config("m", "o", "d", classes={"mixed": {"weight": 0.25, "condition": "B"}, "expert": {"condition": "A"}})
    config = validate(raw, "test")
    assert dict(zip(config.class_names, config.class_weights(), strict=True)) == {"mixed": 0.25, "expert": 1.0}
    assert (config.condition(), config.condition("mixed")) == ("A", "B")


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"template": {"role_prefix": "<{condition} {Role}>\n", "end_of_turn": "</e>", "after_turn": "\n"}},
        {"classes": {"expert": {"condition": "1e5"}, "mixed": {"condition": "no"}}, "train": {"lr": 1e-5}},
        {"model": "東京: '\"#", "train": {"deepspeed": {"a": {"b": [1, None, 1e-20, "1e-4"]}}, "betas": [0, 0.5]}},
    ],
)
def test_dump_and_load_give_the_same_config(tmp_path: Path, sections: dict[str, Any]) -> None:
    config = validate(raw_config("m", "o", "d", **sections), "test")
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert dump_config(load_config(path)) == dump_config(config)


texts = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(plain)
def test_yaml_round_trip(value: Any) -> None:
    assert parse_yaml(to_yaml(value)) == value


@given(st.from_regex(r"\A[-+]?[0-9]{1,3}(\.[0-9]{0,3})?[eE][-+]?[0-9]{1,2}\Z"))
def test_text_that_yaml_would_take_for_a_number_stays_text(text: str) -> None:
    assert parse_yaml(text) == float(text)
    assert parse_yaml(to_yaml(text)) == text


def test_a_section_may_be_used_again() -> None:
    text = "first: &one {path: a, class: expert}\nsecond: {<<: *one, path: b}\nthird: {<<: [*one], repeat: 2}"
    assert parse_yaml(text) == {
        "first": {"path": "a", "class": "expert"},
        "second": {"path": "b", "class": "expert"},
        "third": {"path": "a", "class": "expert", "repeat": 2},
    }


def test_map_keys_may_be_numbers_and_booleans() -> None:
    rule = parse_yaml("{field: good, map: {7: expert, true: expert, GPT3: mixed}}")
    config = validate(raw_config("m", "o", "d", data={"sources": [{"path": "d", "class": rule}]}), "test")
    chosen = config.data.sources[0].class_
    assert not isinstance(chosen, str)
    assert chosen.map == {"7": "expert", "true": "expert", "GPT3": "mixed"}


def test_the_quickstart_config_is_valid() -> None:
    assert load_config(Path(__file__).parents[2] / "jobs/configs/quickstart.yaml").infer_as == "expert"
