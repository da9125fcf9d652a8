"""Tests of resuming by commands: the same command, --resume, --allow-change, and their errors."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from llmkit import cli
from llmkit.runs import checkpoint, folder
from llmkit.testing import make_reviews, write_jsonl
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

KEYS = ["train.save_strategy=steps", "train.save_steps=2", "train.eval_strategy=no", "train.per_device_train_batch_size=8",
        "eval.baselines=[]"]  # fmt: skip


@pytest.fixture
def command(tiny: str) -> list[str]:
    data = write_jsonl("r.jsonl", make_reviews(40))
    return ["finetune-classify", "--train", data, "--model", tiny, "-o", "run", *KEYS]


def interrupt(command: list[str], step: int = 4) -> None:
    """Run the command, and interrupt it as that step begins; the checkpoint of step 2 is committed."""
    train = StepTrainer.training_step

    def fail(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == step:
            raise KeyboardInterrupt
        return train(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", fail)
        assert cli.run_command_line(command) == 130
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [2]


def test_resume_alone_continues_the_run(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(command)
    how = "run: unfinished, saved up to step 2; `llmkit train --resume run` resumes it\nerror: interrupted\n"
    assert capsys.readouterr().err.endswith(how)
    assert cli.run_command_line(["train", "--resume", "run", "--json"]) == 0
    captured = capsys.readouterr()
    assert "run: resumes after step 2, the newest valid checkpoint\n" in captured.err
    record = json.loads(captured.out)
    assert record["run"] == "run"
    assert record["metrics"] == json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["resumed"][0]["after_step"] == 2


def test_a_finished_run_is_reported_with_its_model(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(command) == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for words in (command, ["train", "--resume", "run"]):
        capsys.readouterr()
        assert cli.run_command_line(words) == 0
        captured = capsys.readouterr()
        assert captured.err == "run: this run is finished; nothing to do\n"
        assert captured.out.startswith("\nThe model is in run/model. Next:\n")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_a_folder_name_with_a_blank_is_quoted(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["my run" if word == "run" else word for word in command]

    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", fail)
        assert cli.run_command_line(command) == 130
    assert "; `llmkit train --resume 'my run'` starts it again\n" in capsys.readouterr().err
    assert cli.run_command_line(["train", "--resume", "my run"]) == 0
    assert "  llmkit predict 'my run' \"some text\"\n" in capsys.readouterr().out
    assert (
        Path("my run/recipe.yaml")
        .read_text("utf-8")
        .startswith("# llmkit train 'my run/recipe.yaml' repeats this run\n")
    )


def test_a_change_is_rejected_with_a_table_or_allowed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(command)
    before = sorted(Path("run").rglob("*"))
    capsys.readouterr()
    assert cli.run_command_line([*command, "--epochs", "1"]) == 73
    assert capsys.readouterr().err.endswith(
        "error: run: holds an unfinished run that was started with other settings; repeat the command that started it, or "
        "name another --output-dir, or allow it with --allow-change train.num_train_epochs\n"
        "  key                     then  now\n"
        "  train.num_train_epochs  3.0   1.0\n"
    )
    assert sorted(Path("run").rglob("*")) == before
    assert cli.run_command_line([*command, "--epochs", "1", "--allow-change", "train.num_train_epochs"]) == 0
    about = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert about["resumed"][0]["changed"] == [["train.num_train_epochs", 3.0, 1.0]]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--allow-change", "train.sede"], 64, "--allow-change train.sede: this key cannot change when a run resumes; "),
        (["--resume", "elsewhere"], 66, "--resume elsewhere: not a run folder or checkpoint; name a run folder, or a checkpoint in its checkpoints/"),
        (["--resume", "other"], 64, "--resume other and --output-dir run name two runs; leave one out"),
    ],
)  # fmt: skip
def test_a_failed_resume_is_a_message_and_leaves_nothing_behind(
    command: list[str], words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other").mkdir()
    Path("other/run.json").write_text("{}", encoding="utf-8")
    before = sorted(Path().rglob("*"))
    assert cli.run_command_line([*command, *words]) == code
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(Path().rglob("*")) == before


def test_a_folder_in_use_names_the_process(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(command)
    capsys.readouterr()
    with folder.lock_run_folder(Path("run")):
        assert cli.run_command_line(command) == 73
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    message = f"error: run: in use by {holder}; wait for it or name another --output-dir\n"
    assert capsys.readouterr().err.endswith(message)
    assert cli.run_command_line(command) == 0
