"""The prepared state of a run: its recipe with a model named, and checked rows, before a model loads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from llmkit.data.prepare import Splits
from llmkit.models.sources.model_ref import ModelName
from llmkit.runs import folder as folders
from llmkit.runs.folder import RunFolder
from llmkit.runs.recipe_diff import Asked
from llmkit.schema import Recipe
from llmkit.tasks.base import Task


@dataclass(frozen=True)
class Start:
    """What is known before a model loads: the recipe with a model named, and checked rows."""

    recipe: Recipe
    task: Task
    model: ModelName
    splits: Splits
    name: str
    path: Path
    asked: Asked  # the recipe before anything was settled

    def folder(self) -> AbstractContextManager[RunFolder]:
        """The run folder, made and locked."""
        if self.recipe.output_dir:
            return folders.open_folder(self.path, self.asked)
        return folders.open_fresh(self.name, self.asked)
