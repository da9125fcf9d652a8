"""Tests of loading a run folder from a stranger: changed files are errors, and no code in it runs unless named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit import cli
from llmkit.errors import DataError, LlmkitError, RecipeError
from llmkit.inference.load_saved import load_saved_model
from llmkit.runs import manifest

EVIL = "from pathlib import Path\nPath('ran').touch()\nraise SystemExit('never run me')\n"


@pytest.fixture
def run(finished: Path) -> Path:
    return Path(shutil.copytree(finished, "run"))


def error_of(act: Callable[[], object], kind: type[LlmkitError]) -> str:
    """Return the message of the error, and check that the evil task file did not run."""
    with pytest.raises(kind) as caught:
        act()
    assert not Path("ran").exists()
    return str(caught.value)


def name_task(run: Path, file: str, *, recorded: str | None = None, seal: bool = True) -> None:
    """Write `task: file` into the run's recipe, and as an attacker could its hash, and `recorded` as its task file."""
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("task: classify\n", f"task: {file}\n"))
    run_manifest = json.loads((run / "run.json").read_text())
    if seal:
        run_manifest["outputs"]["recipe.yaml"] = manifest.hash_file(recipe)
    if recorded is not None:
        run_manifest["task_file"] = {"path": recorded, "sha256": manifest.hash_file(Path(recorded))}
    (run / "run.json").write_text(json.dumps(run_manifest))


def test_a_changed_recipe_is_an_error(run: Path) -> None:
    Path("evil.py").write_text(EVIL)
    name_task(run, "./evil.py", seal=False)
    assert error_of(lambda: load_saved_model("run"), DataError) == (
        "run/recipe.yaml: not the file that the run wrote; copy the run folder again, or train again"
    )


def test_a_recipe_without_a_recorded_hash_is_an_error(run: Path) -> None:
    run_manifest = json.loads((run / "run.json").read_text())
    del run_manifest["outputs"]["recipe.yaml"]
    (run / "run.json").write_text(json.dumps(run_manifest))
    assert error_of(lambda: load_saved_model("run"), DataError) == (
        "run/recipe.yaml: not the file that the run wrote; copy the run folder again, or train again"
    )


@pytest.mark.parametrize("words", [["predict", "run", "a film"], ["eval", "run", "--data", "r.jsonl"]])
def test_an_edited_model_file_is_a_data_error(run: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    config = run / "model/config.json"
    config.write_text(config.read_text() + "\n")
    assert cli.run_command_line(words) == DataError.exit_code == 65
    sentence = "run/model/config.json: not the file that the run wrote; copy the run folder again, or train again"
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_a_task_file_that_was_not_recorded_does_not_run(run: Path) -> None:
    Path("evil.py").write_text(EVIL)
    name_task(run, "./evil.py")
    message = "run: its task file evil.py is missing or changed; pass it again with --task evil.py"
    assert error_of(lambda: load_saved_model("run"), RecipeError) == message
    assert error_of(lambda: load_saved_model("run", keys=["data.encoding=cp1252"]), RecipeError) == message


@pytest.mark.parametrize("file", ["run/evil.py", "./run/model/../evil.py"])
def test_code_inside_the_run_folder_does_not_run(run: Path, file: str) -> None:
    Path("run/evil.py").write_text(EVIL)
    name_task(run, file, recorded=file)
    shown = Path(file)
    assert error_of(lambda: load_saved_model("run"), RecipeError) == (
        f"run: its task file {shown} is inside the run folder; read it, then pass it with --task {shown}"
    )


def test_a_link_to_code_inside_the_run_folder_does_not_run(run: Path) -> None:
    Path("run/evil.py").write_text(EVIL)
    Path("link.py").symlink_to("run/evil.py")
    name_task(run, "link.py", recorded="link.py")
    message = "run: its task file link.py is inside the run folder; read it, then pass it with --task link.py"
    assert error_of(lambda: load_saved_model("run"), RecipeError) == message


def test_another_file_than_the_recorded_one_does_not_run(run: Path) -> None:
    Path("evil.py").write_text(EVIL)
    Path("good.py").write_text("")
    name_task(run, "evil.py", recorded="good.py")
    message = "run: its task file evil.py is missing or changed; pass it again with --task evil.py"
    assert error_of(lambda: load_saved_model("run"), RecipeError) == message


def test_a_changed_or_missing_task_file_does_not_run(run: Path) -> None:
    Path("own.py").write_text("")
    name_task(run, "own.py", recorded="own.py")
    message = "run: its task file own.py is missing or changed; pass it again with --task own.py"
    Path("own.py").write_text(EVIL)
    assert error_of(lambda: load_saved_model("run"), RecipeError) == message
    Path("own.py").unlink()
    assert error_of(lambda: load_saved_model("run"), RecipeError) == message


def test_a_recorded_or_named_task_file_is_loaded(run: Path) -> None:
    own = (Path("own.py"), Path("copy.py"))
    for file in own:
        file.write_text(
            "from llmkit.tasks import classify\n\n\nclass Own(classify.Classify):\n    '''As classify.'''\n"
        )
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("\nclassify:\n", "\nown:\n"))
    name_task(run, "./own.py", recorded="own.py")
    assert load_saved_model("run").task.name == "own"
    assert load_saved_model("run", keys=["data.encoding=cp1252"]).data.encoding == "cp1252"
    own[0].write_text(own[0].read_text() + "# changed\n")
    assert load_saved_model("run", "own.py").task.name == "own"
    assert load_saved_model("run", "own.py", ["data.encoding=cp1252"]).data.encoding == "cp1252"
