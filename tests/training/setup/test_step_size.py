"""Tests the size of a step: rows in all, rows of each process, and the limit of a pass."""

from __future__ import annotations

import pytest

from llmkit.errors import RecipeError
from llmkit.recipe.load import load_recipe
from llmkit.schema import TrainSection
from llmkit.tasks.classify import Classify
from llmkit.tasks.summarize import Summarize, SummarizeOptions
from llmkit.training.setup.step_size import count_row_tokens, may_exceed_memory, resolve_step_size


def load_train(*keys: str) -> TrainSection:
    return load_recipe(None, [f"train.{key}" for key in keys], task="classify").train


@pytest.mark.parametrize(
    ("keys", "processes", "size"),
    [  # rows per step, rows per process, tokens per pass of rows of 10 tokens
        ((), 1, (32, 32, 320)),
        ((), 2, (32, 16, 160)),
        (("batch_size=7",), 2, (7, 4, 40)),
        (("batch_size=1",), 2, (1, 1, 10)),
        (("batch_size=7", "max_tokens_per_pass=25"), 2, (7, 4, 25)),
        # as in transformers
        (("per_device_train_batch_size=8",), 1, (8, 8, 80)),
        (("per_device_train_batch_size=4",), 2, (8, 4, 40)),
        (("per_device_train_batch_size=2", "gradient_accumulation_steps=2"), 2, (8, 4, 20)),
        (("per_device_train_batch_size=2", "gradient_accumulation_steps=4"), 1, (8, 8, 20)),
        (("per_device_train_batch_size=2", "max_tokens_per_pass=90"), 1, (2, 2, 90)),
    ],
)
def test_keys_and_processes_give_the_size(keys: tuple[str, ...], processes: int, size: tuple[int, int, int]) -> None:
    resolved = resolve_step_size(load_train(*keys), processes, 10)
    assert (resolved.rows_per_step, resolved.rows_per_process, resolved.max_tokens) == size


@pytest.mark.parametrize(
    ("keys", "processes", "line"),
    [
        ((), 1, "32 rows per step, at most 32 rows of 128 tokens"),
        ((), 2, "32 rows per step; 16 on each of 2 processes (ddp), at most 16 rows of 128 tokens"),
        (("batch_size=7",), 2, "7 rows per step; at most 4 on each of 2 processes (ddp), at most 4 rows of 128 tokens"),
        (("max_tokens_per_pass=255",), 1, "32 rows per step, at most 1 row of 128 tokens"),
        (("max_tokens_per_pass=9999",), 1, "32 rows per step, at most 32 rows of 128 tokens"),
    ],
)
def test_line_names_rows_per_step_per_process_and_at_once(keys: tuple[str, ...], processes: int, line: str) -> None:
    assert resolve_step_size(load_train(*keys), processes, 128).describe(processes, "ddp") == (
        f"batch: {line} at once (train.max_tokens_per_pass)"
    )


def test_limit_below_one_row_is_rejected() -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_step_size(load_train("max_tokens_per_pass=9"), 1, 10)
    assert str(caught.value) == (
        "train.max_tokens_per_pass: 9 is less than one row, which may have 10 tokens; "
        "raise it, or lower model.max_length"
    )


def test_row_has_source_and_target_with_padding() -> None:
    assert count_row_tokens(Classify(), 60) == 64
    assert count_row_tokens(Summarize(SummarizeOptions(max_target_length=20)), 60) == 64 + 24


def test_memory_limits_a_pass_unless_a_key_does() -> None:
    assert may_exceed_memory(load_train("batch_size=8"))
    assert not may_exceed_memory(load_train("per_device_train_batch_size=8"))
    assert not may_exceed_memory(load_train("max_tokens_per_pass=512"))
