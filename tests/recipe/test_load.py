"""Tests of recipe loading from files, overrides and flags, and of writing recipes as YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmkit import tasks
from llmkit.errors import MissingInputError, UsageError
from llmkit.recipe.load import KEY_BY_FLAG, dump_recipe, load_recipe
from llmkit.recipe.validation_messages import list_dotted_keys
from llmkit.schema import Recipe
from llmkit.tasks.classify import ClassifyOptions

FILE = """\
task: classify
model: {name: m, max_length: 64}
data:
  train: a.csv
train:
  seed: 1
  learning_rate: 1e-3
eval:
classify:
  label_smoothing: 0.1
"""


def load_file(*overrides: str, file: str = FILE, **flags: Any) -> Recipe:
    """Write `file` as r.yaml and load it."""
    Path("r.yaml").write_text(file)
    return load_recipe("r.yaml", overrides, **flags)


def test_a_file_is_loaded_with_the_tasks_own_section() -> None:
    recipe = load_file()
    assert (recipe.task, recipe.model.max_length, recipe.data.train, recipe.train.seed) == ("classify", 64, "a.csv", 1)
    assert recipe.train.learning_rate == 1e-3
    assert recipe.options == ClassifyOptions(label_smoothing=0.1)
    assert recipe.eval.batch_size == 64


def test_overrides_win_over_the_file_and_flags_over_both() -> None:
    recipe = load_file("train.seed=2", "data.train=b.csv", "model.name=o", model="f", train="c.csv", epochs=1.0)
    assert (recipe.train.seed, recipe.data.train, recipe.model.name) == (2, "c.csv", "f")
    assert recipe.train.num_train_epochs == 1.0


def test_flags_that_are_none_change_nothing() -> None:
    assert load_file(**dict.fromkeys(KEY_BY_FLAG)) == load_file()


def test_every_flag_stands_for_a_key() -> None:
    columns = {f"data.columns.{one}" for name in tasks.list_tasks() for one in tasks.load_task(name).columns}
    assert set(KEY_BY_FLAG.values()) <= {*list_dotted_keys(Recipe), "lora", *columns}


def test_columns_by_flag_join_those_of_the_file() -> None:
    recipe = load_file("data.columns={text: body}", label="section")
    assert recipe.data.columns == {"text": "body", "label": "section"}


def test_no_file_is_needed_if_the_command_has_a_task() -> None:
    recipe = load_recipe(task="classify", train="a.csv")
    assert (recipe.task, recipe.data.train) == ("classify", "a.csv")


def test_an_empty_section_is_one_of_defaults() -> None:
    text = "task: classify\nmodel:\ndata:\n  split:\ntrain:\neval:\nclassify:\n"
    assert load_file(file=text) == load_recipe(task="classify")


def test_recipes_are_frozen() -> None:
    recipe = load_file()
    for section in (recipe, recipe.model, recipe.data, recipe.data.split, recipe.train, recipe.eval, recipe.options):
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, "x")


def test_an_unknown_argument_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(task="classify", epoch=3)
    assert str(caught.value) == "unknown argument 'epoch'; did you mean 'epochs'?"


def test_a_missing_file_is_an_error_with_a_suggestion() -> None:
    Path("reviews.yaml").touch()
    with pytest.raises(MissingInputError) as caught:
        load_recipe("review.yaml")
    assert str(caught.value) == "review.yaml: no such recipe; did you mean 'reviews.yaml'?"
    assert caught.value.exit_code == 66


def test_dump_leaves_out_the_output_folder_and_keys_without_a_value() -> None:
    text = dump_recipe(
        load_file("output_dir=runs/x", "model.config={classifier_dropout: null}"), ["llmkit train\nruns/x", "two"]
    )
    assert text.splitlines()[:3] == ["# llmkit train\N{REPLACEMENT CHARACTER}runs/x", "# two", "task: classify"]
    assert "output_dir" not in text
    assert "revision" not in text
    assert "classifier_dropout:\n" in text
    assert "options" not in text


def test_a_file_name_that_is_not_utf8_is_preserved() -> None:
    recipe = load_recipe(task="classify", train="caf\udce9.csv")
    Path("d.yaml").write_text(dump_recipe(recipe))
    assert load_recipe("d.yaml") == recipe


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
sources = st.one_of(
    texts.filter(str.strip), st.dictionaries(texts.filter(str.strip), texts.filter(str.strip), min_size=1, max_size=2)
)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)
counts = st.integers(1, 2**40)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model.name": texts,
    "model.max_length": counts,
    "model.config": st.dictionaries(texts, plain, max_size=2),
    "data.train": sources,
    "data.columns": st.dictionaries(st.sampled_from(["text", "label"]), texts, max_size=2),
    "data.split.validation": st.floats(0, 0.4),
    "data.delimiter": texts,
    "train.learning_rate": positive,
    "train.num_train_epochs": st.floats(1e-3, 10_000),
    "train.max_steps": st.integers(1, 10**9),
    "train.max_tokens_per_pass": counts,
    "train.weight_decay": st.floats(min_value=0, allow_infinity=False, allow_nan=False),
    "train.optim": st.sampled_from(["sgd", "adafactor"]),
    "train.eval_strategy": st.just("no"),
    "train.hf": st.dictionaries(st.sampled_from(["torch_compile", "report_to", "optim_args"]), plain, max_size=2),
    "eval.metrics": st.lists(st.sampled_from(["accuracy", "mcc"]), max_size=2),
    "eval.baselines": st.just([]),
    "classify.label_smoothing": st.floats(0, 0.9),
    "classify.class_weights": st.dictionaries(texts, positive, max_size=2) | st.just("balanced"),
}


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dictionaries."""
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
    values[last] = value


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional=VALUES))
@example({"model.name": "\x85", "data.train": "a\u2028b\rc\nd\te", "model.config": {"\u2029": "\ufeff"}})
@settings(max_examples=60, deadline=None)
def test_dump_and_load_give_an_equal_recipe(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    from llmkit.recipe.draft import RecipeDraft
    from llmkit.recipe.load import validate_draft

    draft = RecipeDraft({"task": "classify"})
    for key, value in values.items():
        set_key(draft.values, key, value)
    recipe = validate_draft(draft)
    file = tmp_path_factory.getbasetemp() / "round.yaml"
    file.write_text(dump_recipe(recipe, ["a comment"]), encoding="utf-8")
    again = load_recipe(file)
    assert again == recipe
    assert dump_recipe(again) == dump_recipe(recipe)


def test_every_mistake_is_reported_once(refusal: Callable[..., str]) -> None:
    assert len(refusal("task: classify\ntrain: {sed: 1, seed: -1, optim: x}\n").splitlines()) == 3
