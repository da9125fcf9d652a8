"""What model.config may change: shapes that the files do not have and fields that others decide are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmkit.errors import ModelError, RecipeError
from llmkit.models.load import load_config, load_model, load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.models.tokenizers.max_length import check_max_length
from llmkit.testing import make_tiny_model

HEAD = "AutoModelForSequenceClassification"
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("num_labels", "the task decides it; leave it out"),
        ("id2label", "the task decides it; leave it out"),
        ("label2id", "the task decides it; leave it out"),
        ("problem_type", "the task decides it; leave it out"),
        ("return_dict", "llmkit decides it; leave it out"),
        ("architectures", "llmkit decides it; leave it out"),
        ("model_type", "llmkit decides it; leave it out"),
        ("auto_map", "llmkit decides it; leave it out"),
        ("transformers_weights", "llmkit decides it; leave it out"),
        ("output_hidden_states", "llmkit decides it; leave it out"),
        ("output_attentions", "llmkit decides it; leave it out"),
        ("dtype", "has a key of its own; write model.dtype"),
        ("torch_dtype", "has a key of its own; write model.dtype"),
    ],
)
def test_fields_that_others_decide(tiny: str, key: str, why: str, refused: Refused) -> None:
    said = f"model.config.{key}: {why}"
    assert refused(lambda: load_config(resolve_model(tiny), {key: None}), RecipeError) == said
    if not why.startswith("the task"):
        assert refused(lambda: load_model(resolve_model(tiny), HEAD, {key: None}), RecipeError) == said


@pytest.mark.parametrize("key", ["to_dict", "_name_or_path", "hiden_size"])
def test_what_is_no_field(tiny: str, key: str, refused: Refused) -> None:
    said = refused(lambda: load_config(resolve_model(tiny), {key: 1}), RecipeError)
    assert said.startswith(f"model.config.{key}: the config of {tiny} has no such field; ")


def test_the_changed_config_is_what_comes_back(tiny: str) -> None:
    assert load_config(resolve_model(tiny), {"hidden_dropout_prob": 0.25}).hidden_dropout_prob == 0.25
    assert load_config(resolve_model(tiny)).hidden_dropout_prob == 0.1


def test_a_field_goes_by_the_familys_other_name_too() -> None:
    make_tiny_model("m", "distilbert")
    assert load_config(resolve_model("m"), {"num_hidden_layers": 1}).n_layers == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"vocab_size": 10},
            "its tokenizer has {words} words, its embedding 10; take both from the same model",
        ),
        (
            {"vocab_size": 500},
            (
                "bert.embeddings.word_embeddings.weight is {words} x 32 in its files, 500 x 32 by its config; "
                "leave out model.config.vocab_size"
            ),
        ),
        (
            {"max_position_embeddings": 8},
            (
                "bert.embeddings.position_embeddings.weight is 130 x 32 in its files, 8 x 32 by its config; "
                "leave out model.config.max_position_embeddings"
            ),
        ),
        (
            {"hidden_act": "relu", "intermediate_size": 16},
            (
                "bert.encoder.layer.0.intermediate.dense.bias is 64 in its files, 16 by its config; "
                "leave out model.config.hidden_act and model.config.intermediate_size"
            ),
        ),
    ],
)
def test_a_body_is_never_drawn_at_random(tiny: str, changes: dict[str, Any], said: str, refused: Refused) -> None:
    words = len(load_tokenizer(resolve_model(tiny)))
    head = {"num_labels": 3}
    expected = f"{tiny}: {said.format(words=words)}"
    assert refused(lambda: load_model(resolve_model(tiny), HEAD, changes | head), ModelError) == expected


UNDRAWN = "write a number above 0, such as model.config.initializer_range=0.02"


@pytest.mark.parametrize("spread", [0.0, -0.5, float("nan")])
def test_a_spread_that_no_weights_can_be_drawn_with_is_named(spread: float, refused: Refused) -> None:
    make_tiny_model("m", "modernbert")
    said = f"m: model.config.initializer_range {spread}: no modernbert can be drawn with it; {UNDRAWN}"
    assert refused(lambda: load_model(resolve_model("m"), HEAD, {"initializer_range": spread, "num_labels": 3})) == said


def test_the_spread_is_named_also_where_only_the_last_layer_is_drawn(refused: Refused) -> None:
    make_tiny_model("m", auto_class=HEAD, id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1})
    other = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "num_labels": 2}
    said = f"m: model.config.initializer_range -0.5: no bert can be drawn with it; {UNDRAWN}"
    assert refused(lambda: load_model(resolve_model("m"), HEAD, {"initializer_range": -0.5} | other)) == said


def test_a_spread_of_0_stands_for_the_familys_default_where_it_has_one(tiny: str) -> None:
    loaded = load_model(resolve_model(tiny), HEAD, {"initializer_range": 0.0, "num_labels": 3})
    assert 0.01 < loaded.model.classifier.weight.std() < 0.03


def test_a_value_of_the_wrong_kind_comes_with_the_reason(tiny: str, refused: Refused) -> None:
    assert refused(lambda: load_config(resolve_model(tiny), {"initializer_range": 0})) == (
        f"{tiny}: StrictDataclassFieldValidationError: Validation error for field 'initializer_range': TypeError: Field "
        "'initializer_range' expected float, got int (value: 0); check the folder and model.config"
    )


def test_a_damaged_config_is_not_the_recipes_fault(refused: Refused) -> None:
    from pathlib import Path

    make_tiny_model("m")
    file = Path("m/config.json")
    file.write_text(file.read_text().replace('"intermediate_size": 64', '"intermediate_size": 16'))
    assert refused(lambda: load_model(resolve_model("m"), HEAD, {}), ModelError) == (
        "m: bert.encoder.layer.0.intermediate.dense.bias is 64 in its files, 16 by its config; mend its config.json"
    )


def test_the_length_is_checked_against_the_changed_config(refused: Refused) -> None:
    make_tiny_model("m", "modernbert")
    name = resolve_model("m")
    config = load_config(name, {"max_position_embeddings": 8})
    said = refused(lambda: check_max_length(name, config, load_tokenizer(name), 9))
    assert said == "m: model.max_length 9 exceeds its 8 positions; set model.max_length=8"
