"""Fuzz tests of recipes and overrides: each loads and round-trips, or raises an error that names the origin.

No other exception or exit code may occur, and no file may be written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmkit import cli, tasks
from llmkit.errors import CONTROL_PATTERN, MissingInputError, RecipeError
from llmkit.recipe.load import dump_recipe, load_recipe
from llmkit.recipe.validation_messages import list_dotted_keys
from llmkit.schema import Recipe

WORDS = [
    *list_dotted_keys(Recipe),
    *(key.split(".")[0] for key in list_dotted_keys(Recipe)),
    "classify.class_weights",
    "classify",
    "zzz",
]
VALUES = ["1", "-1", "1e-3", ".nan", "true", "null", "~", "no", "'x'", "x", "[]", "[a, 1]", "{}", "{a: 1}", "steps",
          "&a b", "*a", "!!int 3", "<<", "2026-01-01", "\"\\x00\"", "[[[", "? a", "- a", "|", "#", "%YAML 1.1", "😀"]  # fmt: skip
values = st.sampled_from(VALUES) | st.text(max_size=8)
keys = st.sampled_from([word.split(".")[-1] for word in WORDS] + ["1", "a b", "<<", "? x"]) | st.text(max_size=4)
lines = st.tuples(st.sampled_from(["", "  ", "    ", "\t"]), keys, st.sampled_from([": ", ":", " ", ":\n"]), values)
files = st.lists(lines.map("".join), max_size=8).map("\n".join) | st.text(max_size=40)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "r.yaml"


def check_load(load: Callable[[], Recipe], origin: str) -> None:
    """Load a recipe and check the result; each line of an error must begin with `origin`."""
    try:
        recipe = load()
    except (RecipeError, MissingInputError) as error:  # exit codes 78 and 66
        lines = str(error).split("\n")
        assert [line for line in lines if not line.removeprefix("error: ").startswith((origin, "task: no file "))] == []
        assert not any(map(CONTROL_PATTERN.search, lines))
    else:
        again = Path("again.yaml")
        again.write_text(dump_recipe(recipe), encoding="utf-8")
        assert load_recipe(again) == recipe.model_copy(update={"output_dir": None})
        again.unlink()
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@given(text=files, task=st.booleans())
@example(text="train: {<<: {seed: 1}}", task=True)
@example(text="train:\n  hf: {1: 2}\n  seed: {a: b}\ndata: {split: 3, columns: [1]}", task=True)
@settings(max_examples=200, deadline=None)
def test_any_file_loads_or_raises_an_error(file: Path, text: str, task: bool) -> None:
    file.write_text(("task: classify\n" if task else "") + text, encoding="utf-8", errors="surrogatepass")
    before = file.read_bytes()
    check_load(lambda: load_recipe(file), str(file))
    assert file.read_bytes() == before


def invalid_overrides(task: str) -> list[str]:
    """Return one override per key of the task's recipe, with a value that is invalid for every key."""
    keys = [*list_dotted_keys(Recipe), *(f"{task}.{key}" for key in list_dotted_keys(tasks.load_task(task).Options))]
    return [f"{key}=[[{{}}]]" for key in keys]


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks.list_tasks())
def test_every_key_of_every_task_reports_an_invalid_value(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"mlm": "pretrain-mlm"}
    for override in invalid_overrides(task):
        assert cli.run_command_line([commands.get(task, f"finetune-{task}"), override]) == 78, override
        message = capsys.readouterr().err
        assert message.startswith(f"error: command line: {override.partition('=')[0]}: "), message
        assert message.count("\n") == 1
    rest = [
        one for one in invalid_overrides(task) if not one.startswith("task=")
    ]  # without a task sections are unknown
    assert cli.run_command_line([commands.get(task, f"finetune-{task}"), *rest]) == 78
    assert capsys.readouterr().err.count("\n") == len(rest)  # all of them at once
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@given(data=st.data(), task=st.sampled_from(tasks.list_tasks()))
@settings(max_examples=150, deadline=None)
def test_any_value_of_a_tasks_own_key_loads_or_raises_an_error(data: st.DataObject, task: str) -> None:
    own = [f"{task}.{key}" for key in list_dotted_keys(tasks.load_task(task).Options)]
    overrides = data.draw(st.lists(st.tuples(st.sampled_from(own), values).map("=".join), min_size=1, max_size=3))
    check_load(lambda: load_recipe(None, overrides, task=task), "command line: ")


@pytest.mark.slow
@given(overrides=st.lists(st.tuples(st.sampled_from(WORDS), values).map("=".join) | st.text(max_size=10), max_size=4))
@example(overrides=["classify=3"])
@example(overrides=["train=[1]", "train.seed=1"])
@example(overrides=["classify.class_weights={a: []}"])
@settings(max_examples=200, deadline=None)
def test_any_override_loads_or_raises_an_error(overrides: list[str]) -> None:
    check_load(lambda: load_recipe(None, overrides, task="classify"), "command line: ")
