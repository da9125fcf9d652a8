"""Tests of the recipe schema against the installed transformers, and of the help texts."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
from pydantic import BaseModel
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from llmkit.recipe import hf
from llmkit.schema import Recipe, TrainSection
from llmkit.tasks.classify import ClassifyOptions

INSTALLED = {field.name for field in dataclasses.fields(TrainingArguments)}
OWN = {
    "batch_size",
    "max_tokens_per_pass",
    "precision",
    "strategy",
    "fast_path",
    "hf",
}  # keys that TrainingArguments does not have


def choices(key: str) -> set[Any]:
    return set(typing.get_args(TrainSection.model_fields[key].annotation))


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    return [model, *(s for one in inner if isinstance(one, type) and issubclass(one, BaseModel) for s in sections(one))]


def test_every_train_key_is_a_field_of_training_arguments() -> None:
    assert set(TrainSection.model_fields) - OWN <= INSTALLED


def test_every_choice_exists_in_transformers() -> None:
    assert choices("lr_scheduler_type") <= {one.value for one in SchedulerType}
    assert choices("optim") <= {one.value for one in OptimizerNames}
    assert choices("eval_strategy") <= {"no", "steps", "epoch"}


def test_fields_read_from_source_equal_those_of_the_class() -> None:
    assert hf.list_hf_fields() == INSTALLED


def test_reserved_and_replaced_fields_exist() -> None:
    assert hf.RESERVED_HF_FIELDS <= INSTALLED
    assert set(hf.KEY_BY_HF_FIELD) <= INSTALLED
    assert not hf.RESERVED_HF_FIELDS & set(hf.KEY_BY_HF_FIELD)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(INSTALLED))
def test_every_training_arguments_field_has_exactly_one_key(key: str) -> None:
    free = hf.explain_hf_key(key) is None
    assert free == (key not in hf.RESERVED_HF_FIELDS | set(hf.KEY_BY_HF_FIELD) | set(TrainSection.model_fields))


@pytest.mark.parametrize("section", [*sections(Recipe), ClassifyOptions], ids=lambda section: section.__name__)
def test_every_key_has_a_help_text(section: type[BaseModel]) -> None:
    assert section.__doc__
    assert [name for name, field in section.model_fields.items() if not (field.description or "").endswith(".")] == []


@pytest.mark.parametrize(
    ("given", "has"), [({}, False), ({"lora": False}, False), ({"lora": True}, True), ({"lora": None}, True),
                       ({"lora": {}}, True), ({"lora": {"r": 4}}, True)],
)  # fmt: skip
def test_lora_changes_the_default_learning_rate(given: dict[str, Any], has: bool) -> None:
    recipe = Recipe.model_validate({"task": "classify"} | given)
    assert (recipe.lora is not None) == has
    assert recipe.train.learning_rate == (1e-3 if has else 5e-5)
    explicit = Recipe.model_validate({"task": "classify", "train": {"learning_rate": 2e-4}} | given)
    assert explicit.train.learning_rate == 2e-4
