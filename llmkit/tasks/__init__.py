"""Task lookup: one file per task, named after its file; a user's own task file is loaded the same way."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from llmkit.errors import MissingInputError, RecipeError, suggest_spelling
from llmkit.tasks.base import Task

NON_TASK_MODULES = ("__init__", "base", "generation", "types")
USER_TASK_MODULE_PREFIX = "llmkit_user_task_"  # of the module name of a user's task file


def list_tasks() -> list[str]:
    """List the names of llmkit's own tasks."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NON_TASK_MODULES)


def load_task(name: str) -> type[Task]:
    """Load the Task class of `name`: one of `list_tasks()`, or a path to a .py file that defines one.

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
    """Import the user's file as a module. Runs the file."""
    if not path.is_file():
        raise MissingInputError(f"task: no file '{path}'", "name a .py file that defines one Task")
    name = f"{USER_TASK_MODULE_PREFIX}{path.stem}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"task: '{path}' cannot be loaded as Python", "name a .py file that defines one Task")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic read annotations through the module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        del sys.modules[name]
        raise RecipeError(f"task: {path}: {type(error).__name__}: {error}", "fix the file") from error
    return module


def find_task_class(module: ModuleType, name: str) -> type[Task]:
    """Find the only Task class that `module` itself defines, and set its name."""
    classes = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Task) and cls.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise RecipeError(f"task: {name} defines {len(classes)} Task classes", "a task file defines exactly one")
    classes[0].name = Path(name).stem
    return classes[0]
