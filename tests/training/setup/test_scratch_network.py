"""Tests the defaults of networks and models trained from scratch: chosen, printed and recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit import tasks
from llmkit.data.rows import build_rows
from llmkit.errors import LlmkitError, MissingInputError, RecipeError
from llmkit.models.networks import build_network_config
from llmkit.models.scratch import sizes
from llmkit.models.sources.model_ref import resolve_model
from llmkit.recipe.load import dump_recipe, load_recipe
from llmkit.schema import Recipe, VocabularySection
from llmkit.tasks.classify import Classify
from llmkit.tasks.summarize import Summarize
from llmkit.testing import make_tiny_model
from llmkit.training.setup import model, scratch_network


@pytest.fixture
def get_error() -> Callable[..., str]:
    def get_message(error_type: type[LlmkitError], *keys: str, **flags: Any) -> str:
        with pytest.raises(error_type) as caught:
            model.choose_model(load_recipe(None, keys, task="classify", train="x.csv", **flags), Classify())
        return str(caught.value)

    return get_message


def choose(*keys: str, **flags: Any) -> Any:
    return model.choose_model(load_recipe(None, keys, task="classify", train="x.csv", **flags), Classify())


def load_scratch_recipe(preset: str, *keys: str, task: str) -> Recipe:
    return load_recipe(None, keys, task=task, train="x.jsonl", from_config=preset, tokenizer="tok")


def test_network_learning_rate_is_default_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, name = choose(model="lstm")
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (1e-3, 10)
    assert recipe.model.vocabulary == VocabularySection()
    assert name.reason == "trained from scratch; write ./lstm for a folder of this name"
    assert capsys.readouterr().err == (
        "lstm: train.learning_rate 0.001 and train.num_train_epochs 10, as networks need, not 5e-05 and 3; "
        "a recipe or KEY=VALUE can set another\n"
    )
    text = dump_recipe(recipe)
    assert "  learning_rate: 0.001\n" in text
    assert "  vocabulary:\n    size: 20000\n    min_frequency: 2\n    lowercase: true\n" in text


def test_explicit_keys_are_kept(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    recipe, _ = choose("train.learning_rate=5e-5", "model.vocabulary.size=10", model="gru", epochs=2.0)
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (5e-5, 2)
    assert recipe.model.vocabulary.size == 10
    assert capsys.readouterr().err == ""
    Path("again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")  # the recorded recipe repeats the run
    reloaded, _ = model.choose_model(load_recipe("again.yaml"), Classify())
    assert dump_recipe(reloaded) == dump_recipe(recipe)
    recipe, _ = choose(model="gru", epochs=2.0)
    assert "gru: train.learning_rate 0.001, as networks need, not 5e-05; " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "mlm", "summarize", "translate"])
@pytest.mark.parametrize(("preset", "learning_rate"), [("t5-tiny", 1e-3), ("bert-mini", 1e-3), ("bart-small", 5e-4),
                                             ("modernbert-medium", 5e-4), ("roberta-base", 1e-4)])  # fmt: skip
def test_from_config_learning_rate_depends_on_size_and_is_printed(
    task: str, preset: str, learning_rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, _ = model.choose_model(load_scratch_recipe(preset, task=task), tasks.load_task(task)())
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (learning_rate, 3)
    message = f"{preset}: train.learning_rate {learning_rate:g}, as models trained from scratch need, not 5e-05; a recipe or KEY=VALUE can set another\n"
    assert capsys.readouterr().err == message
    Path("again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    reloaded, _ = model.choose_model(load_recipe("again.yaml"), tasks.load_task(task)())
    assert dump_recipe(reloaded) == dump_recipe(recipe)
    assert capsys.readouterr().err == ""


def test_from_config_keeps_an_explicit_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _ = model.choose_model(
        load_scratch_recipe("t5-tiny", "train.learning_rate=5e-5", task="summarize"), Summarize()
    )
    assert recipe.train.learning_rate == 5e-5
    assert capsys.readouterr().err == ""


def test_every_size_has_a_learning_rate() -> None:
    assert sizes.PRESET_LEARNING_RATES.keys() == sizes.MODEL_SIZES.keys()
    assert all(
        sizes.get_preset_learning_rate(name) in sizes.PRESET_LEARNING_RATES.values() for name in sizes.list_presets()
    )


def test_pretrained_models_keep_the_default_learning_rate(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _ = choose(model=tiny)
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (5e-5, 3)
    assert recipe.model.vocabulary is None
    assert capsys.readouterr().err == ""


def test_saved_network_gets_the_network_learning_rate(own_folder: Path) -> None:
    build_network_config("cnn").save_pretrained("mine")
    recipe, name = choose(model="mine")
    assert recipe.train.learning_rate == 1e-3
    assert recipe.model.vocabulary is None
    assert name == resolve_model("mine")


def test_folder_named_like_a_network_is_given_by_path(own_folder: Path) -> None:
    make_tiny_model("lstm")
    assert choose(model="lstm")[1].folder is None
    assert choose(model="./lstm")[1].folder == Path("lstm")


def test_tokenizer_replaces_the_vocabulary(tiny: str, get_error: Callable[..., str]) -> None:
    assert choose(model="lstm", tokenizer=tiny)[0].model.vocabulary is None
    assert get_error(RecipeError, "model.vocabulary.size=9", model="lstm", tokenizer=tiny) == (
        "command line: model.vocabulary: a tokenizer already has a vocabulary; leave one out"
    )


def test_network_keys_are_rejected_for_other_models(tiny: str, get_error: Callable[..., str]) -> None:
    fix = "leave it out, or name one of rnn, lstm, gru, cnn, bag"
    for key in ("word_vectors=v.txt", "vocabulary.size=9"):
        assert get_error(RecipeError, f"model.{key}", model=tiny) == (
            f"model.{key.split('.')[0].split('=')[0]}: applies only to a network trained from scratch, and the model is {tiny}; {fix}"
        )
    assert get_error(RecipeError, "model.revision=main", model="lstm") == (
        "model.revision: a network trained from scratch has no revision, and the model is lstm; leave it out"
    )
    assert get_error(MissingInputError, "model.word_vectors=v.txt", model="lstm").startswith(
        "model.word_vectors: v.txt: no such file"
    )
    message = get_error(RecipeError, "model.vocabulary.sise=9", model="lstm")
    assert message == "command line: model.vocabulary.sise: unknown key; did you mean 'size'?"


def test_vocabulary_covers_both_texts_and_no_labels() -> None:
    columns = {"text": ["one", "two"], "text_pair": ["three", "four"], "label": ["five", "six"]}
    rows = build_rows(columns, "rows", range(2), row_numbered=True).with_column_mapping(
        {name: name for name in columns}
    )
    assert list(scratch_network.iter_input_texts(Classify(), rows)) == ["one", "two", "three", "four"]
