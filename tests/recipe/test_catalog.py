"""Tests of the catalog of shipped recipes: names, copies, and that each recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.errors import LlmkitError, MissingInputError, OutputError
from llmkit.recipe import catalog
from llmkit.recipe.load import load_recipe

NAMES = list(catalog.list_recipes())


def error_of(kind: type[LlmkitError], name: str, target: Path | None = None) -> str:
    """Return the message of the error that finding or copying the recipe raises."""
    with pytest.raises(kind) as caught:
        catalog.find_recipe(name) if target is None else catalog.copy_recipe(name, target)
    return str(caught.value)


def test_every_shipped_recipe_has_a_one_sentence_description() -> None:
    assert "classify/bbc-headlines" in NAMES
    for sentence in catalog.list_recipes().values():
        assert sentence.endswith(".")
        assert sentence[0].isupper()


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).task == name.split("/")[0]


@pytest.mark.parametrize(
    "name", ["classify/bbc-headlines", "recipes/classify/bbc-headlines.yaml", "classify/bbc-headlines.yaml"]
)
def test_a_shipped_recipe_is_found_by_all_its_names(name: str) -> None:
    assert catalog.find_recipe(name) == catalog.get_recipes_folder() / "classify" / "bbc-headlines.yaml"


def test_a_local_file_takes_precedence() -> None:
    Path("classify").mkdir()
    Path("classify/bbc-headlines").write_text("task: classify\n")
    assert catalog.find_recipe("classify/bbc-headlines") == Path("classify/bbc-headlines")


def test_an_unknown_recipe_is_an_error_with_a_suggestion() -> None:
    Path("runs/x").mkdir(parents=True)
    near = "classify/bbc-headline: no such recipe; did you mean 'classify/bbc-headlines'?"
    assert error_of(MissingInputError, "classify/bbc-headline") == near
    far = "zzz.yaml: no such recipe; `llmkit recipes list` names the shipped ones"
    assert error_of(MissingInputError, "zzz.yaml") == far
    assert error_of(MissingInputError, "runs/x/") == "runs/x/: a folder, not a recipe; name its runs/x/recipe.yaml"


def test_a_copy_is_byte_for_byte_and_never_overwrites() -> None:
    Path("folder").mkdir()
    name, text = "classify/bbc-headlines", catalog.find_recipe("classify/bbc-headlines").read_bytes()
    assert catalog.copy_recipe(name, Path("mine.yaml")) == Path("mine.yaml")
    assert catalog.copy_recipe(name, Path("folder")) == Path("folder/bbc-headlines.yaml")
    assert Path("mine.yaml").read_bytes() == Path("folder/bbc-headlines.yaml").read_bytes() == text
    Path("mine.yaml").write_text("mine")
    assert error_of(OutputError, name, Path("mine.yaml")) == "mine.yaml: exists; name another file"
    assert Path("mine.yaml").read_text() == "mine"
    sentence = "no/mine.yaml: No such file or directory; name a folder that exists and can be written"
    assert error_of(OutputError, name, Path("no/mine.yaml")) == sentence
