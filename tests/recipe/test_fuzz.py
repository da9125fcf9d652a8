"""Whatever stands in a recipe or on the command line: a recipe that says itself, or sentences that name the place.

Never another exception, never another exit code than the table has for it, and nothing is written.
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


def loaded(load: Callable[[], Recipe], place: str) -> None:
    """Load, and look at what came of it: `place` is what each line of a refusal begins with."""
    try:
        recipe = load()
    except (RecipeError, MissingInputError) as fault:  # no other kind: 78 and 66
        lines = str(fault).split("\n")
        assert [line for line in lines if not line.removeprefix("error: ").startswith((place, "task: no file "))] == []
        assert not any(map(CONTROL_PATTERN.search, lines))
    else:
        again = Path("again.yaml")
        again.write_text(dump_recipe(recipe), encoding="utf-8")
        assert load_recipe(again) == recipe.model_copy(update={"output_dir": None})
        again.unlink()
    assert list(Path().iterdir()) == []


@given(text=files, task=st.booleans())
@example(text="train: {<<: {seed: 1}}", task=True)
@example(text="train:\n  hf: {1: 2}\n  seed: {a: b}\ndata: {split: 3, columns: [1]}", task=True)
@settings(max_examples=200, deadline=None)
def test_any_file_is_a_recipe_or_a_sentence(file: Path, text: str, task: bool) -> None:
    file.write_text(("task: classify\n" if task else "") + text, encoding="utf-8", errors="surrogatepass")
    before = file.read_bytes()
    loaded(lambda: load_recipe(file), str(file))
    assert file.read_bytes() == before


def wrong(task: str) -> list[str]:
    """Each key that a recipe of the task has with a value that none can have."""
    keys = [*list_dotted_keys(Recipe), *(f"{task}.{key}" for key in list_dotted_keys(tasks.load_task(task).Options))]
    return [f"{key}=[[{{}}]]" for key in keys]


@pytest.mark.parametrize("task", tasks.list_tasks())
def test_every_key_of_every_task_refuses_nonsense_in_one_sentence(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {"mlm": "pretrain-mlm"}
    for word in wrong(task):
        assert cli.run_command_line([commands.get(task, f"finetune-{task}"), word]) == 78, word
        said = capsys.readouterr().err
        assert said.startswith(f"error: command line: {word.partition('=')[0]}: "), said
        assert said.count("\n") == 1
    rest = [word for word in wrong(task) if not word.startswith("task=")]  # without it no section is known
    assert cli.run_command_line([commands.get(task, f"finetune-{task}"), *rest]) == 78
    assert capsys.readouterr().err.count("\n") == len(rest)  # all of them at once
    assert list(Path().iterdir()) == []


@given(data=st.data(), task=st.sampled_from(tasks.list_tasks()))
@settings(max_examples=150, deadline=None)
def test_any_value_of_a_tasks_own_key_too(data: st.DataObject, task: str) -> None:
    own = [f"{task}.{key}" for key in list_dotted_keys(tasks.load_task(task).Options)]
    overrides = data.draw(st.lists(st.tuples(st.sampled_from(own), values).map("=".join), min_size=1, max_size=3))
    loaded(lambda: load_recipe(None, overrides, task=task), "command line: ")


@given(overrides=st.lists(st.tuples(st.sampled_from(WORDS), values).map("=".join) | st.text(max_size=10), max_size=4))
@example(overrides=["classify=3"])
@example(overrides=["train=[1]", "train.seed=1"])
@example(overrides=["classify.class_weights={a: []}"])
@settings(max_examples=200, deadline=None)
def test_any_override_is_a_recipe_or_a_sentence(overrides: list[str]) -> None:
    loaded(lambda: load_recipe(None, overrides, task="classify"), "command line: ")
