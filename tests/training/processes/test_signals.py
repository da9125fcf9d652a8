"""A signal ends a run at the next whole step, with the code that says so, and the run goes on to the same bytes."""

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

COMMAND = ["finetune-classify", "--train", "r.jsonl", "eval.baselines=[]", "train.per_device_train_batch_size=8",
           "train.logging_steps=1", "train.learning_rate=1e-2", "train.eval_strategy=no", "--epochs", "3"]  # fmt: skip
FORK = multiprocessing.get_context("fork")  # the parent has imported everything


@pytest.fixture(autouse=True)
def data() -> str:
    return write_jsonl("r.jsonl", make_reviews(40))


def child(model: str, patch: Callable[[], None], *keys: str) -> Any:
    """The command in a process of its own, with stderr in `err`."""

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


def ended(process: Any) -> tuple[int, str]:
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode, Path("err").read_text(encoding="utf-8")


def at_step(number: int, *sent: int) -> Callable[[], None]:
    """Signals that come in the middle of a step."""

    def patch() -> None:
        step = StepTrainer.training_step

        def signalled(self: StepTrainer, *args: Any) -> Any:
            if self.state.global_step + 1 == number:
                for one in sent:
                    os.kill(os.getpid(), one)
            return step(self, *args)

        StepTrainer.training_step = signalled  # type: ignore[method-assign]

    return patch


def before(owner: Any, name: str, sent: int) -> Callable[[], None]:
    """A signal that comes as that function is called."""

    def patch() -> None:
        function = getattr(owner, name)

        def signalled(*args: Any, **words: Any) -> Any:
            os.kill(os.getpid(), sent)
            return function(*args, **words)

        setattr(owner, name, signalled)

    return patch


@pytest.mark.parametrize(
    ("sent", "code", "said", "step"),
    [
        (signal.SIGTERM, 75, "error: stopped by SIGTERM\n", 4),  # the last step of an epoch
        (signal.SIGUSR1, 75, "error: stopped by SIGUSR1\n", 12),  # the last of all
        (signal.SIGHUP, 75, "error: stopped by SIGHUP\n", 3),  # the terminal has gone
        (signal.SIGINT, 130, "error: interrupted\n", 2),
    ],
)
def test_signal_finishes_and_saves_the_step(tiny: str, sent: int, code: int, said: str, step: int) -> None:
    assert ended(child(tiny, lambda: None))[0] == 0
    whole = hash_file(Path("run/model/model.safetensors"))
    Path("run").rename("whole")
    found, err = ended(child(tiny, at_step(step, sent)))
    assert found == code, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints"))[0] == step
    how = f"run: unfinished, committed up to step {step}; `llmkit train --resume run` goes on\n"
    assert err.endswith(how + said)
    assert err.count("stopping as soon as this step is saved; a second signal leaves at once\n") == 1
    llmkit.train(resume="run")
    assert hash_file(Path("run/model/model.safetensors")) == whole
    lines = [Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines() for run in ("run", "whole")]
    assert len(lines[0]) == len(lines[1])


def test_interrupted_evaluation_is_repeated(tiny: str) -> None:
    keys = ("train.eval_strategy=epoch",)
    assert ended(child(tiny, lambda: None, *keys))[0] == 0
    whole = [Path("run", name).read_bytes() for name in ("model/model.safetensors", "metrics.json")]
    scored = [line for line in Path("run/log.jsonl").read_text("utf-8").splitlines() if "eval_" in line]
    Path("run").rename("whole")
    code, err = ended(child(tiny, before(StepTrainer, "leave_evaluation", signal.SIGTERM), *keys))
    assert code == 75, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [4]
    llmkit.train(resume="run")
    assert [Path("run", name).read_bytes() for name in ("model/model.safetensors", "metrics.json")] == whole
    assert [line for line in Path("run/log.jsonl").read_text("utf-8").splitlines() if "eval_" in line] == scored


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_before_the_first_step_exits_at_once_without_files(tiny: str, sent: int, code: int) -> None:
    found, err = ended(child(tiny, before(runs.ready, "encode", sent)))
    assert found == code, err
    assert not Path("run").exists()


@pytest.mark.parametrize("where", ["save", "judge"])
def test_signal_after_training_exits_at_once_and_resumes(tiny: str, where: str) -> None:
    patch = before(runs, "judge_and_write", signal.SIGTERM)
    if where == "save":
        patch = before(resumable_trainer.commit, "commit", signal.SIGTERM)
    code, err = ended(child(tiny, patch))
    assert code == 75, err
    assert llmkit.train(resume="run").report is not None


def test_second_signal_exits_within_a_second(tiny: str) -> None:
    def patch() -> None:
        def slow(*_: Any) -> Any:
            Path("slow").touch()
            end = time.monotonic() + 30
            while time.monotonic() < end:  # as a long kernel: Python's own handlers have no turn
                time.sleep(0.05)

        StepTrainer.training_step = slow  # type: ignore[method-assign]

    process = child(tiny, patch)
    while not Path("slow").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(5)
    assert process.exitcode == 75
    assert Path("err").read_text(encoding="utf-8").endswith("error: stopped at once\n")


def test_repeated_signal_does_not_end_one_of_several_at_once(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "one_of_several", lambda: True)
    found, err = ended(child(tiny, at_step(2, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1)))
    assert found == 75, err
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [2]
    monkeypatch.setattr(signals, "ECHO", 0.0)
    found, err = ended(child(tiny, at_step(6, signal.SIGTERM, signal.SIGTERM)))
    assert err.endswith("error: stopped at once\n")
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [4, 2]


def test_rank_waiting_in_a_library_exits_soon(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "one_of_several", lambda: True)
    monkeypatch.setattr(signals, "STUCK", 0.1)

    def patch() -> None:
        def stuck(*_: Any) -> None:
            with suppress(RunInterrupted):
                os.kill(os.getpid(), signal.SIGTERM)
            while True:  # as a library that does not come back to Python
                time.sleep(60)

        runs.ready.encode = stuck  # type: ignore[assignment]

    found, err = ended(child(tiny, patch))
    assert (found, err.splitlines()[-1]) == (75, "error: stopped at once")


@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGTERM, 75, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
def test_signal_before_reading_has_the_same_exit_code(tiny: str, sent: int, code: int, said: str) -> None:
    from llmkit.cli import training_command

    found, err = ended(child(tiny, before(training_command, "asked_for", sent)))
    assert (found, err) == (code, f"error: {said}\n")
    assert not Path("run").exists()


def test_run_under_nohup_ignores_sighup(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def patch() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        at_step(2, signal.SIGHUP)()

    assert ended(child(tiny, patch))[0] == 0


def test_handlers_are_restored() -> None:
    before_ = {number: signal.getsignal(number) for number in signals.EXIT_CODE_BY_SIGNAL}
    with signals.handle_signals() as stop:
        assert signal.getsignal(signal.SIGTERM) == stop.handle
    assert {number: signal.getsignal(number) for number in signals.EXIT_CODE_BY_SIGNAL} == before_
