"""Tests that a run does not resume with steps of another size."""

from __future__ import annotations

import pytest

from llmkit.errors import UsageError
from llmkit.runs.recipe_diff import RequestedRecipe, diff_recipes
from llmkit.training.checkpoints.resume import list_file_hashes


def test_other_rows_per_step_are_a_difference_that_cannot_be_allowed() -> None:
    then, now = ({"data": [], "processes": number, "rows_per_step": 4 * number} for number in (1, 2))
    assert diff_recipes(list_file_hashes(then), list_file_hashes(now)) == [
        ("processes", 1, 2),
        ("rows per step", 4, 8),
    ]
    with pytest.raises(UsageError, match="this key cannot change when a run resumes"):
        RequestedRecipe("", {}, ["rows per step"])


def test_limit_of_a_pass_can_be_allowed_to_change() -> None:
    assert RequestedRecipe("", {}, ["train.max_tokens_per_pass"]).allowed == ["train.max_tokens_per_pass"]
