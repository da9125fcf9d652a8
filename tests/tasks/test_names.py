"""Tests of task lookup: by the name of an llmkit task, or by the path of a user's file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmkit import tasks
from llmkit.errors import LlmkitError, MissingInputError, RecipeError
from llmkit.tasks.classify import Classify

ONE = "from llmkit.tasks.base import Task\nclass One(Task):\n    pass\n"


def error_of(name: str, kind: type[LlmkitError] = RecipeError) -> str:
    """Return the message of the error that loading the task raises."""
    with pytest.raises(kind) as caught:
        tasks.load_task(name)
    return str(caught.value)


def test_a_name_is_a_module_of_the_package() -> None:
    assert "classify" in tasks.list_tasks()
    assert not {"base", "__init__"} & set(tasks.list_tasks())
    assert tasks.load_task("classify") is Classify
    assert Classify.name == "classify"


def test_a_path_is_a_users_file_and_its_stem_the_task_name() -> None:
    Path("folder").mkdir()
    Path("folder/mine.py").write_text(ONE)
    kind = tasks.load_task("folder/mine.py")
    assert (kind.__name__, kind.name) == ("One", "mine")


def test_an_imported_task_class_is_ignored() -> None:
    Path("mine.py").write_text("from llmkit.tasks.classify import Classify\nclass Mine(Classify):\n    pass\n")
    assert tasks.load_task("mine.py").__name__ == "Mine"
    assert Classify.name == "classify"


def test_late_annotations_dataclasses_and_options_work_in_a_users_file() -> None:
    Path("mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import Annotated\n"
        "from pydantic import Field\n"
        "from llmkit.schema import Section\n"
        "from llmkit.tasks.base import Task\n"
        "Small = Annotated[int, Field(le=3)]\n"
        "@dataclass\n"
        "class Pair:\n"
        "    a: int\n"
        "class Mine(Task):\n"
        "    class Options(Section):\n"
        "        size: Small = 2\n"
    )
    assert tasks.load_task("mine.py")().options.size == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "task: mine.py defines 0 Task classes; a task file defines exactly one"),
        (ONE + ONE.replace("One", "Two"), "task: mine.py defines 2 Task classes; a task file defines exactly one"),
        ("class A(:\n", "task: mine.py: SyntaxError: invalid syntax (mine.py, line 1); fix the file"),
        ("import nosuchmodule\n", "task: mine.py: ModuleNotFoundError: No module named 'nosuchmodule'; fix the file"),
        ("raise SystemExit(3)\n", "task: mine.py: SystemExit: 3; fix the file"),
    ],
    ids=["none", "two", "syntax", "import", "exit"],
)
def test_a_file_without_exactly_one_task_is_an_error(text: str, sentence: str) -> None:
    before = set(sys.modules)
    Path("mine.py").write_text(text)
    assert error_of("mine.py") == sentence
    assert {name for name in set(sys.modules) - before if "mine" in name} <= {"llmkit_user_task_mine"}


def test_unknown_names_and_missing_files_are_errors() -> None:
    Path("folder.py").mkdir()
    assert error_of("clasify") == "task: unknown task 'clasify'; did you mean 'classify'? (or a file: ./my_task.py)"
    assert error_of("../classify").startswith("task: unknown task '../classify'; ")
    fix = "name a .py file that defines one Task"
    assert error_of("no.py", MissingInputError) == f"task: no file 'no.py'; {fix}"
    assert error_of("folder.py", MissingInputError) == f"task: no file 'folder.py'; {fix}"
