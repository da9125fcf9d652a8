"""What networks and fresh weights need of a recipe that says nothing of it: chosen, said, and written down."""

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
def refused() -> Callable[..., str]:
    def sentence(kind: type[LlmkitError], *keys: str, **flags: Any) -> str:
        with pytest.raises(kind) as caught:
            model.choose_model(load_recipe(None, keys, task="classify", train="x.csv", **flags), Classify())
        return str(caught.value)

    return sentence


def named(*keys: str, **flags: Any) -> Any:
    return model.choose_model(load_recipe(None, keys, task="classify", train="x.csv", **flags), Classify())


def fresh(shape: str, *keys: str, task: str) -> Recipe:
    return load_recipe(None, keys, task=task, train="x.jsonl", from_config=shape, tokenizer="tok")


def test_a_network_learns_at_its_own_rate_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, name = named(model="lstm")
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (1e-3, 10)
    assert recipe.model.vocabulary == VocabularySection()
    assert name.why == "a fresh network; a folder is named ./lstm"
    assert capsys.readouterr().err == (
        "lstm: train.learning_rate 0.001 and train.num_train_epochs 10, as networks need, not 5e-05 and 3; "
        "a recipe or KEY=VALUE names another\n"
    )
    text = dump_recipe(recipe)
    assert "  learning_rate: 0.001\n" in text
    assert "  vocabulary:\n    size: 20000\n    min_frequency: 2\n    lowercase: true\n" in text


def test_what_is_named_stays(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    recipe, _ = named("train.learning_rate=5e-5", "model.vocabulary.size=10", model="gru", epochs=2.0)
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (5e-5, 2)
    assert recipe.model.vocabulary.size == 10
    assert capsys.readouterr().err == ""
    Path("again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")  # so the recipe of a run repeats it
    again, _ = model.choose_model(load_recipe("again.yaml"), Classify())
    assert dump_recipe(again) == dump_recipe(recipe)
    recipe, _ = named(model="gru", epochs=2.0)
    assert "gru: train.learning_rate 0.001, as networks need, not 5e-05; " in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classify", "mlm", "summarize", "translate"])
@pytest.mark.parametrize(("shape", "rate"), [("t5-tiny", 1e-3), ("bert-mini", 1e-3), ("bart-small", 5e-4),
                                             ("modernbert-medium", 5e-4), ("roberta-base", 1e-4)])  # fmt: skip
def test_fresh_weights_learn_at_the_rate_of_their_size_and_say_so(
    task: str, shape: str, rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, _ = model.choose_model(fresh(shape, task=task), tasks.load_task(task)())
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (rate, 3)
    said = f"{shape}: train.learning_rate {rate:g}, as fresh weights need, not 5e-05; a recipe or KEY=VALUE names another\n"
    assert capsys.readouterr().err == said
    Path("again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    again, _ = model.choose_model(load_recipe("again.yaml"), tasks.load_task(task)())
    assert dump_recipe(again) == dump_recipe(recipe)
    assert capsys.readouterr().err == ""


def test_fresh_weights_learn_at_the_rate_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _ = model.choose_model(fresh("t5-tiny", "train.learning_rate=5e-5", task="summarize"), Summarize())
    assert recipe.train.learning_rate == 5e-5
    assert capsys.readouterr().err == ""


def test_every_shape_has_a_rate() -> None:
    assert sizes.PRESET_LEARNING_RATES.keys() == sizes.MODEL_SIZES.keys()
    assert all(
        sizes.get_preset_learning_rate(name) in sizes.PRESET_LEARNING_RATES.values() for name in sizes.list_presets()
    )


def test_other_models_learn_as_ever(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _ = named(model=tiny)
    assert (recipe.train.learning_rate, recipe.train.num_train_epochs) == (5e-5, 3)
    assert recipe.model.vocabulary is None
    assert capsys.readouterr().err == ""


def test_a_saved_network_learns_at_a_networks_rate_too(own_folder: Path) -> None:
    build_network_config("cnn").save_pretrained("mine")
    recipe, name = named(model="mine")
    assert recipe.train.learning_rate == 1e-3
    assert recipe.model.vocabulary is None
    assert name == resolve_model("mine")


def test_a_folder_of_that_name_is_named_by_its_path(own_folder: Path) -> None:
    make_tiny_model("lstm")
    assert named(model="lstm")[1].folder is None
    assert named(model="./lstm")[1].folder == Path("lstm")


def test_a_tokenizer_stands_in_for_a_vocabulary(tiny: str, refused: Callable[..., str]) -> None:
    assert named(model="lstm", tokenizer=tiny)[0].model.vocabulary is None
    assert refused(RecipeError, "model.vocabulary.size=9", model="lstm", tokenizer=tiny) == (
        "command line: model.vocabulary: a tokenizer already has a vocabulary; leave one out"
    )


def test_keys_of_networks_count_for_networks(tiny: str, refused: Callable[..., str]) -> None:
    mend = "leave it out, or name one of rnn, lstm, gru, cnn, bag"
    for key in ("vectors=v.txt", "vocabulary.size=9"):
        assert refused(RecipeError, f"model.{key}", model=tiny) == (
            f"model.{key.split('.')[0].split('=')[0]}: counts only for a fresh network, and the model is {tiny}; {mend}"
        )
    assert refused(RecipeError, "model.revision=main", model="lstm") == (
        "model.revision: fresh weights have none, and the model is lstm; leave it out"
    )
    assert refused(MissingInputError, "model.word_vectors=v.txt", model="lstm").startswith(
        "model.word_vectors: v.txt: no such file"
    )
    said = refused(RecipeError, "model.vocabulary.sise=9", model="lstm")
    assert said == "command line: model.vocabulary.sise: unknown key; did you mean 'size'?"


def test_words_are_those_of_both_texts_and_of_no_label() -> None:
    columns = {"text": ["one", "two"], "text_pair": ["three", "four"], "label": ["five", "six"]}
    rows = build_rows(columns, "rows", range(2), row_numbered=True).with_column_mapping(
        {name: name for name in columns}
    )
    assert list(scratch_network.iter_input_texts(Classify(), rows)) == ["one", "two", "three", "four"]
