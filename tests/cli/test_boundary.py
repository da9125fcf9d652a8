"""Tests that errors become messages with exit codes, and that light commands import no heavy library."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit import cli, tasks
from llmkit.errors import LlmkitError
from llmkit.testing import make_reviews, write_jsonl
from llmkit.version import __version__

HEAVY = ["torch", "transformers", "datasets", "peft", "sklearn", "scipy", "evaluate", "pandas"]
LIGHT = ["errors", "console", "schema", "recipe.load", "recipe.catalog", "runs.folder", "runs.manifest", "metrics",
         "metrics.classification.single_label", "tasks", "tasks.base", "tasks.classify", "models.sources.model_ref", "cli"]  # fmt: skip


def list_imports(code: str) -> set[str]:
    """The top-level modules that a new interpreter has imported after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.split(".")[0] for name in json.loads(done.stderr.strip().splitlines()[-1])}


@pytest.mark.slow
@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    assert not list_imports(f"import llmkit.{module}") & set(HEAVY)


@pytest.mark.slow
def test_help_imports_neither_heavy_libraries_nor_pydantic() -> None:
    code = "from llmkit.cli import run_command_line\nrun_command_line(['--help'])\nrun_command_line(['--version'])"  # Typer imports pydantic for a command's own help
    assert not list_imports(code) & {*HEAVY, "pydantic", "ruamel", "numpy", "pyarrow", "rich"}


@pytest.mark.slow
def test_a_mistyped_recipe_is_rejected_without_heavy_libraries() -> None:
    code = "from llmkit.cli import run_command_line\nassert run_command_line(['finetune-classify', '--train', 'x.csv', 'train.lerning_rate=1']) == 78"
    assert not list_imports(code) & set(HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["finetune-clasify"], 64, "No such command 'finetune-clasify'"),
        (["predict"], 64, "Missing argument 'MODEL'"),
        (["finetune-classify", "--modle", "x"], 64, "No such option: --modle"),
        (["predict", "x", "text", "--precision", "fp8"], 64, "precision fp8: unknown; write fp32 or bf16"),
        (["predict", "x", "text", "--data", "f.csv"], 64, "texts and --data together; give one of them"),
        (["predict", "runs/none", "text"], 66, "runs/none: no such folder; name a model folder, a Hub id or pkg://PACKAGE/PATH"),
        (["train", "no/such.yaml"], 66, "no/such.yaml: no such recipe; `llmkit recipes list` names the shipped ones"),
        (["finetune-classify", "--train", "none.csv"], 66, "none.csv: no such file; this folder is empty"),
        (["finetune-classify"], 78, "data.train: missing; name the training rows with --train FILE"),
        (["finetune-classify", "--epochs", "-1", "--train", "x"], 78, "--epochs: train.num_train_epochs: -1.0 is out of range; it must be above 0"),
        (["train", "--train", "x.csv"], 78, "command line: task: missing; write task: classify"),
        (["recipes", "show", "classify/bbc"], 66, "classify/bbc: no such recipe; did you mean 'classify/bbc-headlines'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_with_an_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"error: {message}")
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 71, "out of memory; lower train.max_tokens_per_pass or model.max_length"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 74, "x: no space left; free some and run again"),
        (ZeroDivisionError("oh"), 70, "internal error in llmkit: ZeroDivisionError: oh; run it with --debug and report the traceback"),
        (torch.OutOfMemoryError("CUDA"), 71, "out of memory; lower train.max_tokens_per_pass or model.max_length"),
        (LlmkitError("a \x1b[31mred\x1b[0m hf_abcdefghijkl", "fix"), 70, "a \ufffd[31mred\ufffd[0m ***; fix"),
    ],
)  # fmt: skip
def test_any_exception_becomes_a_message(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("llmkit.recipe.catalog.list_recipes", fail)
    assert cli.run_command_line(["recipes", "list"]) == code
    assert capsys.readouterr().err == f"error: {message}\n"
    assert cli.run_command_line(["recipes", "list"], debug=True) == code
    assert "Traceback" in capsys.readouterr().err


def test_an_error_in_a_task_file_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("own.py")
    path.write_text("import json\nfrom llmkit.tasks.classify import Classify\nclass Own(Classify):\n"
                    "    def loss(self, outputs, batch):\n        return json.loads(batch)\n")  # fmt: skip
    monkeypatch.setattr("llmkit.recipe.catalog.list_recipes", lambda: tasks.load_task("own.py")().loss(None, "{"))
    assert cli.run_command_line(["recipes", "list"]) == 70
    captured = capsys.readouterr().err
    assert captured.startswith("error: own.py, line 5, in loss: JSONDecodeError: Expecting property name")
    assert captured.endswith("; run it with --debug to see the traceback\n")


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(finished: Path) -> None:
    many = write_jsonl("many.jsonl", make_reviews(2000))
    command = f"{sys.executable} -m llmkit predict {finished} --data {many} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"llmkit {__version__}\n"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run_command_line([])
    shown = capsys.readouterr()
    assert "finetune-classify" in shown.out + shown.err
