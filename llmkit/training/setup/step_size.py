"""The size of a step: its rows over all processes, and the tokens that go through the model at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmkit.data.batching import pad_lengths
from llmkit.data.row_errors import pluralize
from llmkit.errors import RecipeError
from llmkit.schema import TrainSection
from llmkit.tasks.base import Task


@dataclass(frozen=True)
class StepSize:
    """Rows of one optimizer step, in all and on each process, and the limit of one pass in tokens."""

    rows_per_step: int
    rows_per_process: int  # rounded up
    row_tokens: int  # of the longest row that max_length allows, its target included
    max_tokens: int  # of a pass, padding included

    @property
    def rows_at_once(self) -> int:
        """The longest rows that one pass may have."""
        return max(1, min(self.rows_per_process, self.max_tokens // self.row_tokens))

    def describe(self, processes: int, strategy: str) -> str:
        """Return the line that names the rows of a step, of each process and of a pass."""
        line = f"batch: {pluralize(self.rows_per_step, 'row')} per step"
        if processes > 1:
            most = "at most " if self.rows_per_step % processes else ""
            line += f"; {most}{self.rows_per_process} on each of {processes} processes ({strategy})"
        limit = f"{pluralize(self.rows_at_once, 'row')} of {pluralize(self.row_tokens, 'token')}"
        return f"{line}, at most {limit} at once (train.max_tokens_per_pass)"


def count_row_tokens(task: Task, max_length: int) -> int:
    """Return the padded tokens of the longest row: its source and, for tasks that generate text, its target."""
    return int(pad_lengths([max_length, task.max_target_length]).sum())


def count_rows_per_step(train: TrainSection, processes: int) -> int:
    """Return the rows of one optimizer step. The keys of transformers name the rows of each process."""
    if train.per_device_train_batch_size is None:
        return train.batch_size
    return train.per_device_train_batch_size * (train.gradient_accumulation_steps or 1) * processes


def resolve_step_size(train: TrainSection, processes: int, row_tokens: int) -> StepSize:
    """Return the size of a step on this number of processes, before memory limits its passes.

    Raises RecipeError for a train.max_tokens_per_pass that one row may exceed.
    """
    rows = count_rows_per_step(train, processes)
    per_process = math.ceil(rows / processes)
    max_tokens = train.max_tokens_per_pass
    if max_tokens is None:
        max_tokens = (train.per_device_train_batch_size or per_process) * row_tokens
    elif max_tokens < row_tokens:
        what = f"train.max_tokens_per_pass: {max_tokens} is less than one row, which may have {row_tokens} tokens"
        raise RecipeError(what, "raise it, or lower model.max_length")
    return StepSize(rows, per_process, row_tokens, max_tokens)


def may_exceed_memory(train: TrainSection) -> bool:
    """Return whether no key of the recipe limits a pass, so that the memory must."""
    return train.max_tokens_per_pass is None and train.per_device_train_batch_size is None
