"""What rows mean: one file a task. The file's name is the task's name; a user's own file works the same way."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from llmkit.errors import MissingInputError, RecipeError, suggest_spelling
from llmkit.tasks.base import Task

NON_TASK_MODULES = ("__init__", "base", "generation", "types")
USER_TASK_MODULE_PREFIX = "llmkit_user_task_"  # begins the names of modules that are task files


def list_tasks() -> list[str]:
    """The tasks that llmkit has."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NON_TASK_MODULES)


def load_task(name: str) -> type[Task]:
    """The Task that `name` means: one of `names()`, or a path to a .py file that defines one.

    Raises RecipeError for an unknown name or a file without exactly one Task, MissingInputError for a missing file.
    """
    if name.endswith(".py"):
        return find_task_class(import_task_file(Path(name)), name)
    if name not in list_tasks():
        raise RecipeError(
            f"task: unknown task '{name}'", f"{suggest_spelling(name, list_tasks())} (or a file: ./my_task.py)"
        )
    return find_task_class(import_module(f"llmkit.tasks.{name}"), name)


def import_task_file(path: Path) -> ModuleType:
    """The module that the user's file defines. Runs the file."""
    if not path.is_file():
        raise MissingInputError(f"task: no file '{path}'", "name a .py file that defines one Task")
    name = f"{USER_TASK_MODULE_PREFIX}{path.stem}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"task: '{path}' cannot be loaded as Python", "name a .py file that defines one Task")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up to read its annotations
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as fault:  # the user's own code may raise anything
        del sys.modules[name]
        raise RecipeError(f"task: {path}: {type(fault).__name__}: {fault}", "mend the file") from fault
    return module


def find_task_class(module: ModuleType, name: str) -> type[Task]:
    """The one Task class that `module` itself defines."""
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Task) and kind.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise RecipeError(f"task: {name} defines {len(found)} Task classes", "a task file defines exactly one")
    found[0].name = Path(name).stem
    return found[0]
