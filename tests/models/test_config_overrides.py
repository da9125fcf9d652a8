"""Overrides in model.config: reserved fields and shapes that the files do not have are refused."""

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
ErrorMessage = Callable[..., str]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("num_labels", "the task sets it; leave it out"),
        ("id2label", "the task sets it; leave it out"),
        ("label2id", "the task sets it; leave it out"),
        ("problem_type", "the task sets it; leave it out"),
        ("return_dict", "llmkit sets it; leave it out"),
        ("architectures", "llmkit sets it; leave it out"),
        ("model_type", "llmkit sets it; leave it out"),
        ("auto_map", "llmkit sets it; leave it out"),
        ("transformers_weights", "llmkit sets it; leave it out"),
        ("output_hidden_states", "llmkit sets it; leave it out"),
        ("output_attentions", "llmkit sets it; leave it out"),
        ("dtype", "has a key of its own; write model.dtype"),
        ("torch_dtype", "has a key of its own; write model.dtype"),
    ],
)
def test_reserved_fields_are_refused(tiny: str, key: str, reason: str, error_message: ErrorMessage) -> None:
    expected = f"model.config.{key}: {reason}"
    assert error_message(lambda: load_config(resolve_model(tiny), {key: None}), RecipeError) == expected
    if not reason.startswith("the task"):
        assert error_message(lambda: load_model(resolve_model(tiny), HEAD, {key: None}), RecipeError) == expected


@pytest.mark.parametrize("key", ["to_dict", "_name_or_path", "hiden_size"])
def test_an_unknown_field_is_refused(tiny: str, key: str, error_message: ErrorMessage) -> None:
    message = error_message(lambda: load_config(resolve_model(tiny), {key: 1}), RecipeError)
    assert message.startswith(f"model.config.{key}: the config of {tiny} has no such field; ")


def test_overrides_are_in_the_loaded_config(tiny: str) -> None:
    assert load_config(resolve_model(tiny), {"hidden_dropout_prob": 0.25}).hidden_dropout_prob == 0.25
    assert load_config(resolve_model(tiny)).hidden_dropout_prob == 0.1


def test_a_field_is_accepted_by_its_other_name() -> None:
    make_tiny_model("m", "distilbert")
    assert load_config(resolve_model("m"), {"num_hidden_layers": 1}).n_layers == 1


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"vocab_size": 10},
            "its tokenizer has {words} tokens, its embedding 10 rows; take both from the same model",
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
def test_base_model_weights_are_never_reinitialized(
    tiny: str, overrides: dict[str, Any], expected: str, error_message: ErrorMessage
) -> None:
    words = len(load_tokenizer(resolve_model(tiny)))
    head = {"num_labels": 3}
    expected = f"{tiny}: {expected.format(words=words)}"
    assert error_message(lambda: load_model(resolve_model(tiny), HEAD, overrides | head), ModelError) == expected


INITIALIZER_FIX = "write a number above 0, such as model.config.initializer_range=0.02"


@pytest.mark.parametrize("value", [0.0, -0.5, float("nan")])
def test_an_unusable_initializer_range_is_reported(value: float, error_message: ErrorMessage) -> None:
    make_tiny_model("m", "modernbert")
    expected = (
        f"m: model.config.initializer_range {value}: a modernbert cannot be initialized with it; {INITIALIZER_FIX}"
    )
    assert (
        error_message(lambda: load_model(resolve_model("m"), HEAD, {"initializer_range": value, "num_labels": 3}))
        == expected
    )


def test_initializer_range_is_reported_for_a_new_head(error_message: ErrorMessage) -> None:
    make_tiny_model("m", auto_class=HEAD, id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1})
    other = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "num_labels": 2}
    expected = f"m: model.config.initializer_range -0.5: a bert cannot be initialized with it; {INITIALIZER_FIX}"
    assert error_message(lambda: load_model(resolve_model("m"), HEAD, {"initializer_range": -0.5} | other)) == expected


def test_an_initializer_range_of_0_means_the_default(tiny: str) -> None:
    loaded = load_model(resolve_model(tiny), HEAD, {"initializer_range": 0.0, "num_labels": 3})
    assert 0.01 < loaded.model.classifier.weight.std() < 0.03


def test_a_value_of_the_wrong_type_is_explained(tiny: str, error_message: ErrorMessage) -> None:
    assert error_message(lambda: load_config(resolve_model(tiny), {"initializer_range": 0})) == (
        f"{tiny}: StrictDataclassFieldValidationError: Validation error for field 'initializer_range': TypeError: Field "
        "'initializer_range' expected float, got int (value: 0); check the folder and model.config"
    )


def test_a_damaged_config_is_not_blamed_on_the_recipe(error_message: ErrorMessage) -> None:
    from pathlib import Path

    make_tiny_model("m")
    file = Path("m/config.json")
    file.write_text(file.read_text().replace('"intermediate_size": 64', '"intermediate_size": 16'))
    assert error_message(lambda: load_model(resolve_model("m"), HEAD, {}), ModelError) == (
        "m: bert.encoder.layer.0.intermediate.dense.bias is 64 in its files, 16 by its config; fix its config.json"
    )


def test_max_length_is_checked_with_the_overrides(error_message: ErrorMessage) -> None:
    make_tiny_model("m", "modernbert")
    name = resolve_model("m")
    config = load_config(name, {"max_position_embeddings": 8})
    message = error_message(lambda: check_max_length(name, config, load_tokenizer(name), 9))
    assert message == "m: model.max_length 9 exceeds its 8 positions; set model.max_length=8"
