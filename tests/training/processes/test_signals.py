"""Tests that a signal stops a run after the current step with its exit code, and that it resumes to the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit import cli
from llmkit.errors import RunInterrupted
from llmkit.runs import checkpoint
from llmkit.runs.manifest import hash_file
from llmkit.testing import make_reviews, write_jsonl
from llmkit.training import run as runs
from llmkit.training.checkpoints import resumable_trainer
from llmkit.training.processes import signals
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

COMMAND = ["finetune-classify", "--train", "r.jsonl", "eval.baselines=[]", "train.per_device_train_batch_size=8",
           "train.logging_steps=1", "train.learning_rate=1e-2", "train.eval_strategy=no", "--epochs", "3"]  # fmt: skip
FORK = multiprocessing.get_context("fork")  # the parent has imported everything


@pytest.fixture(autouse=True)
def data() -> str:
    return write_jsonl("r.jsonl", make_reviews(40))


def start_command(model: str, patch: Callable[[], None], *keys: str) -> Any:
    """Start the command in a forked process, with stderr in the file `err`."""

    def run() -> None:
        handle = os.open("err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 2)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        patch()
        try:
            code = cli.run_command_line([*COMMAND, "--model", model, "-o", "run", *keys])
        except BaseException:
            code = 99
        os._exit(code)

    process = FORK.Process(target=run)
    process.start()
    return process


def wait_for(process: Any) -> tuple[int, str]:
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode, Path("err").read_text(encoding="utf-8")


def signal_at_step(step_number: int, *numbers: int) -> Callable[[], None]:
    """Return a patch that sends signals in the middle of a step."""

    def patch() -> None:
        step = StepTrainer.training_step

        def step_with_signal(self: StepTrainer, *args: Any) -> Any:
            if self.state.global_step + 1 == step_number:
                for number in numbers:
                    os.kill(os.getpid(), number)
            return step(self, *args)

        StepTrainer.training_step = step_with_signal  # type: ignore[method-assign]

    return patch


def signal_before(owner: Any, name: str, number: int) -> Callable[[], None]:
    """Return a patch that sends a signal when that function is called."""

    def patch() -> None:
        function = getattr(owner, name)

        def function_with_signal(*args: Any, **kwargs: Any) -> Any:
            os.kill(os.getpid(), number)
            return function(*args, **kwargs)

        setattr(owner, name, function_with_signal)

    return patch


@pytest.mark.parametrize(
    ("number", "code", "message", "step"),
    [
        (signal.SIGTERM, 75, "error: stopped by SIGTERM\n", 4),  # the last step of an epoch
        (signal.SIGUSR1, 75, "error: stopped by SIGUSR1\n", 12),  # the last step of the run
        (signal.SIGHUP, 75, "error: stopped by SIGHUP\n", 3),  # the terminal was closed
        (signal.SIGINT, 130, "error: interrupted\n", 2),
    ],
)
def test_signal_finishes_and_saves_the_step(tiny: str, number: int, code: int, message: str, step: int) -> None:
    assert wait_for(start_command(tiny, lambda: None))[0] == 0
    reference = hash_file(Path("run/model/model.safetensors"))
    Path("run").rename("reference")
    exit_code, err = wait_for(start_command(tiny, signal_at_step(step, number)))
    assert exit_code == code, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints"))[0] == step
    hint = f"run: unfinished, saved up to step {step}; `llmkit train --resume run` resumes it\n"
    assert err.endswith(hint + message)
    assert err.count("stopping as soon as this step is saved; a second signal exits at once\n") == 1
    llmkit.train(resume="run")
    assert hash_file(Path("run/model/model.safetensors")) == reference
    lines = [Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines() for run in ("run", "reference")]
    assert len(lines[0]) == len(lines[1])


def test_interrupted_evaluation_is_repeated(tiny: str) -> None:
    keys = ("train.eval_strategy=epoch",)
    assert wait_for(start_command(tiny, lambda: None, *keys))[0] == 0
    reference = [Path("run", name).read_bytes() for name in ("model/model.safetensors", "metrics.json")]
    scored = [line for line in Path("run/log.jsonl").read_text("utf-8").splitlines() if "eval_" in line]
    Path("run").rename("reference")
    code, err = wait_for(
        start_command(tiny, signal_before(StepTrainer, "raise_if_stop_requested", signal.SIGTERM), *keys)
    )
    assert code == 75, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [4]
    llmkit.train(resume="run")
    assert [Path("run", name).read_bytes() for name in ("model/model.safetensors", "metrics.json")] == reference
    assert [line for line in Path("run/log.jsonl").read_text("utf-8").splitlines() if "eval_" in line] == scored


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_before_the_first_step_exits_at_once_without_files(tiny: str, number: int, code: int) -> None:
    exit_code, err = wait_for(start_command(tiny, signal_before(runs.setup_features, "encode_splits", number)))
    assert exit_code == code, err
    assert not Path("run").exists()


@pytest.mark.parametrize("where", ["save", "score"])
def test_signal_after_training_exits_at_once_and_resumes(tiny: str, where: str) -> None:
    patch = signal_before(runs, "score_and_write", signal.SIGTERM)
    if where == "save":
        patch = signal_before(resumable_trainer.checkpoint_files, "commit_checkpoint", signal.SIGTERM)
    code, err = wait_for(start_command(tiny, patch))
    assert code == 75, err
    assert llmkit.train(resume="run").report is not None


def test_second_signal_exits_within_a_second(tiny: str) -> None:
    def patch() -> None:
        def slow_step(*_: Any) -> Any:
            Path("slow").touch()
            end = time.monotonic() + 30
            while time.monotonic() < end:  # like a long kernel, in which Python's handlers do not run
                time.sleep(0.05)

        StepTrainer.training_step = slow_step  # type: ignore[method-assign]

    process = start_command(tiny, patch)
    while not Path("slow").exists():
        assert process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(5)
    assert process.exitcode == 75
    assert Path("err").read_text(encoding="utf-8").endswith("error: stopped at once\n")


def test_repeated_signal_does_not_end_one_of_several_at_once(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "is_multi_process", lambda: True)
    exit_code, err = wait_for(start_command(tiny, signal_at_step(2, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1)))
    assert exit_code == 75, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [2]
    monkeypatch.setattr(signals, "ECHO_SECONDS", 0.0)
    exit_code, err = wait_for(start_command(tiny, signal_at_step(6, signal.SIGTERM, signal.SIGTERM)))
    assert err.endswith("error: stopped at once\n")
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [4, 2]


def test_rank_waiting_in_a_library_exits_soon(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "is_multi_process", lambda: True)
    monkeypatch.setattr(signals, "STUCK_SECONDS", 0.1)

    def patch() -> None:
        def stuck_call(*_: Any) -> None:
            with suppress(RunInterrupted):
                os.kill(os.getpid(), signal.SIGTERM)
            while True:  # like a library call that does not return to Python
                time.sleep(60)

        runs.setup_features.encode_splits = stuck_call  # type: ignore[assignment]

    exit_code, err = wait_for(start_command(tiny, patch))
    assert (exit_code, err.splitlines()[-1]) == (75, "error: stopped at once")


@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGTERM, 75, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
def test_signal_before_reading_has_the_same_exit_code(tiny: str, number: int, code: int, message: str) -> None:
    from llmkit.cli import training_command

    exit_code, err = wait_for(start_command(tiny, signal_before(training_command, "load_requested_recipe", number)))
    assert (exit_code, err) == (code, f"error: {message}\n")
    assert not Path("run").exists()


def test_run_under_nohup_ignores_sighup(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal_at_step(2, signal.SIGHUP)()

    assert wait_for(start_command(tiny, patch))[0] == 0


def test_handlers_are_restored() -> None:
    previous = {number: signal.getsignal(number) for number in signals.EXIT_CODE_BY_SIGNAL}
    with signals.handle_signals() as stop:
        assert signal.getsignal(signal.SIGTERM) == stop.handle
    assert {number: signal.getsignal(number) for number in signals.EXIT_CODE_BY_SIGNAL} == previous
