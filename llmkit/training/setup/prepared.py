"""The prepared state of a run: its recipe with a model named, and checked rows, before a model loads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from llmkit.data.prepare import Splits
from llmkit.models.sources.model_ref import ModelRef
from llmkit.runs import folder as folders
from llmkit.runs.folder import RunFolder
from llmkit.runs.recipe_diff import RequestedRecipe
from llmkit.schema import Recipe
from llmkit.tasks.base import Task


@dataclass(frozen=True)
class PreparedRun:
    """A run before its model loads: the recipe with a model chosen, and the checked rows."""

    recipe: Recipe
    task: Task
    model: ModelRef
    splits: Splits
    name: str
    path: Path
    requested: RequestedRecipe  # the recipe before any default was resolved

    def open_folder(self) -> AbstractContextManager[RunFolder]:
        """Create and lock the run folder."""
        if self.recipe.output_dir:
            return folders.open_run_folder(self.path, self.requested)
        return folders.open_new_run_folder(self.name, self.requested)
