"""Tests of the comparison between the requested recipe and that of an unfinished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import OutputError
from llmkit.runs import recipe_diff


@pytest.mark.parametrize("section", ["train.hf", "data.columns", "model.config"])
def test_an_empty_section_is_not_a_key(section: str) -> None:
    def recipe(inner: dict[str, Any]) -> dict[str, Any]:
        first, second = section.split(".")
        return {first: {second: inner, "other": 1}}

    assert recipe_diff.diff_recipes(recipe({}), recipe({"a": 1})) == [(f"{section}.a", None, 1)]
    assert recipe_diff.diff_recipes(recipe({"a": 1}), recipe({})) == [(f"{section}.a", 1, None)]
    assert recipe_diff.diff_recipes(recipe({}), {section.split(".")[0]: {"other": 1}}) == []


def test_a_tracker_may_be_added_on_resume() -> None:
    diff = recipe_diff.diff_recipes({"train": {"hf": {}}}, {"train": {"hf": {"report_to": "tensorboard"}}})
    recipe_diff.check_recipe_diff(Path("run"), diff, ["train.hf.report_to"])
    with pytest.raises(OutputError, match=r"or allow it with --allow-change train\.hf\.report_to\n"):
        recipe_diff.check_recipe_diff(Path("run"), diff, [])
