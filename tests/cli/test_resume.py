"""Going on with a run as it is typed: the same command, --resume, --allow-change, and what is said where nothing goes on."""

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

KEYS = ["train.save_strategy=steps", "train.save_steps=2", "train.eval_strategy=no", "train.per_device_train_batch_size=8",
        "eval.baselines=[]"]  # fmt: skip


@pytest.fixture
def command(tiny: str) -> list[str]:
    data = write_jsonl("r.jsonl", make_reviews(40))
    return ["finetune-classify", "--train", data, "--model", tiny, "-o", "run", *KEYS]


def interrupted(command: list[str], step: int = 4) -> None:
    """The command, ended by Ctrl-C as that step begins; it has committed the second one."""
    train = StepTrainer.training_step

    def ending(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == step:
            raise KeyboardInterrupt
        return train(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", ending)
        assert cli.run_command_line(command) == 130
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [2]


def test_resume_alone_goes_on_with_the_run(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(command)
    how = "run: unfinished, saved up to step 2; `llmkit train --resume run` resumes it\nerror: interrupted\n"
    assert capsys.readouterr().err.endswith(how)
    assert cli.run_command_line(["train", "--resume", "run", "--json"]) == 0
    said = capsys.readouterr()
    assert "run: resumes after step 2, the newest valid checkpoint\n" in said.err
    record = json.loads(said.out)
    assert record["run"] == "run"
    assert record["metrics"] == json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["resumed"][0]["after_step"] == 2


def test_a_finished_run_is_said_with_its_model(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(command) == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for words in (command, ["train", "--resume", "run"]):
        capsys.readouterr()
        assert cli.run_command_line(words) == 0
        said = capsys.readouterr()
        assert said.err == "run: this run is finished; nothing was left to do\n"
        assert said.out.startswith("\nThe model is in run/model. Next:\n")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_a_folder_with_a_blank_in_its_name_is_quoted(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["my run" if word == "run" else word for word in command]

    def ending(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", ending)
        assert cli.run_command_line(command) == 130
    assert "; `llmkit train --resume 'my run'` starts it again\n" in capsys.readouterr().err
    assert cli.run_command_line(["train", "--resume", "my run"]) == 0
    assert "  llmkit predict 'my run' \"some text\"\n" in capsys.readouterr().out
    assert (
        Path("my run/recipe.yaml")
        .read_text("utf-8")
        .startswith("# llmkit train 'my run/recipe.yaml' repeats this run\n")
    )


def test_a_change_is_refused_with_a_table_or_allowed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(command)
    before = sorted(Path("run").rglob("*"))
    capsys.readouterr()
    assert cli.run_command_line([*command, "--epochs", "1"]) == 73
    assert capsys.readouterr().err.endswith(
        "error: run: holds an unfinished run that was begun with something else; give the command that began it, or "
        "name another --output-dir, or allow it with --allow-change train.num_train_epochs\n"
        "  key                     then  now\n"
        "  train.num_train_epochs  3.0   1.0\n"
    )
    assert sorted(Path("run").rglob("*")) == before
    assert cli.run_command_line([*command, "--epochs", "1", "--allow-change", "train.num_train_epochs"]) == 0
    about = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert about["resumed"][0]["changed"] == [["train.num_train_epochs", 3.0, 1.0]]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--allow-change", "train.sede"], 64, "--allow-change train.sede: a run cannot change it on its way; "),
        (["--resume", "elsewhere"], 66, "--resume elsewhere: not a run folder or checkpoint; name a run folder, or a checkpoint in its checkpoints/"),
        (["--resume", "other"], 64, "--resume other and --output-dir run name two runs; leave one out"),
    ],
)  # fmt: skip
def test_what_cannot_be_gone_on_with_is_a_sentence_and_leaves_nothing(
    command: list[str], words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other").mkdir()
    Path("other/run.json").write_text("{}", encoding="utf-8")
    before = sorted(Path().rglob("*"))
    assert cli.run_command_line([*command, *words]) == code
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert sorted(Path().rglob("*")) == before


def test_a_folder_in_use_names_who_uses_it(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(command)
    capsys.readouterr()
    with folder.lock_run_folder(Path("run")):
        assert cli.run_command_line(command) == 73
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    said = f"error: run: in use by {holder}; wait for it or name another --output-dir\n"
    assert capsys.readouterr().err.endswith(said)
    assert cli.run_command_line(command) == 0
