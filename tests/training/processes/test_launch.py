"""Tests launching processes: early checks, arguments of the launchers, and messages on failed processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from llmkit.errors import RecipeError, UsageError
from llmkit.recipe import catalog
from llmkit.recipe.load import dump_given_keys, dump_recipe, load_recipe
from llmkit.runs.launch_env import ProcessGrid
from llmkit.training.processes import launch


def test_written_recipe_equals_the_given_one() -> None:
    keys = ["train.batch_size=8", "classify.label_smoothing=0.1", 'data.columns.text="a: b"']
    recipe = load_recipe(None, keys, task="classify", train="it's.csv", output_dir="x")
    Path("again.yaml").write_text(dump_given_keys(recipe), encoding="utf-8")
    reloaded = load_recipe("again.yaml")
    assert dump_recipe(reloaded) == dump_recipe(recipe)
    assert reloaded == recipe
    assert "max_length" not in reloaded.model.model_fields_set  # a default stays a default, which may be reduced


def test_gpu_strategy_is_rejected_before_launch() -> None:
    recipe = load_recipe(None, ["train.strategy=fsdp2"], task="classify", train="no.csv")
    with pytest.raises(RecipeError) as caught:
        launch.launch_processes(recipe, ProcessGrid(2))
    assert caught.value.exit_code == 78


def test_more_processes_than_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UsageError) as caught:
        launch.check_launch(load_recipe(None, task="classify", train="x"), ProcessGrid(4), "cuda")
    assert str(caught.value) == "--processes 4: this machine has 1 GPU; start one process per GPU"


def test_torchrun_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed import run

    parsed = run.get_args_parser().parse_args(
        [*launch.build_torchrun_args(ProcessGrid(2, 3, 1, "node1:7")), "-m", "llmkit", "train"]
    )
    assert (parsed.nproc_per_node, parsed.nnodes, parsed.node_rank) == ("2", "3", 1)
    assert (parsed.master_addr, parsed.master_port) == ("node1", 7)
    assert "SIGUSR1" in parsed.signals_to_handle
    assert "SIGHUP" in parsed.signals_to_handle
    monkeypatch.setattr("signal.getsignal", lambda _: signal.SIG_IGN)
    assert "SIGHUP" not in launch.build_torchrun_args(ProcessGrid(2))[1]  # under nohup
    assert run.get_args_parser().parse_args([*launch.build_torchrun_args(ProcessGrid(2)), "-m", "llmkit"]).standalone


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3"])
def test_accelerate_arguments(strategy: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    profile = catalog.get_recipes_folder() / "profiles" / f"{strategy}.yaml"
    args = [*launch.build_accelerate_args(ProcessGrid(4, 2, 1, "node1"), profile), "-m", "llmkit", "train", "r.yaml"]
    parsed = launch_command_parser().parse_args(args)
    assert (parsed.num_processes, parsed.num_machines, parsed.machine_rank) == (8, 2, 1)
    assert (parsed.main_process_ip, parsed.main_process_port, parsed.mixed_precision) == ("node1", 29_500, "no")
    assert (parsed.module, parsed.training_script, parsed.training_script_args) == (True, "llmkit", ["train", "r.yaml"])


def test_launch_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    before = dict(os.environ)
    with launch.export_launch_environment(ProcessGrid(2), "cpu", Path("error")):
        assert os.environ["LLMKIT_PROCESSES"] == "2"
        assert json.loads(os.environ["LLMKIT_COMMAND"]) == sys.argv
        assert os.environ["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))
        assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert dict(os.environ) == before


def run_failing(
    error: BaseException, capsys: pytest.CaptureFixture[str], error_file: str = "error.json"
) -> tuple[int, str]:
    """Return the exit code and the output if the launcher ends with `error`."""

    def run() -> None:
        raise error

    code = launch.run_launcher(run, ProcessGrid(2), Path(error_file))
    return code, capsys.readouterr().err


def failure_of(codes: dict[int, int]) -> ChildFailedError:
    return ChildFailedError("llmkit", {rank: ProcessFailure(rank, 1, code, "") for rank, code in codes.items()})


def test_silent_rank_is_reported_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    killed = "error: rank 1 of 2: killed (SIGKILL, perhaps out of memory); --resume continues the run\n"
    assert run_failing(failure_of({0: -15, 1: -9}), capsys) == (70, killed)
    exited = "error: rank 1 of 2: exited with code 71 without an error message; run it with --debug\n"
    assert run_failing(failure_of({0: -15, 1: 71}), capsys) == (71, exited)


def test_printed_error_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    Path("error.json").write_text('{"rank": 0, "code": 65, "sentence": "no column"}')
    assert run_failing(failure_of({0: 65, 1: -15}), capsys) == (65, "")


def test_signal_to_the_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_failing(SignalException("", signal.SIGINT), capsys) == (130, "")  # the command line prints it
    assert run_failing(SignalException("", signal.SIGUSR1), capsys) == (75, "error: stopped by SIGUSR1\n")


def test_signal_to_one_process_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("error.json").write_text('{"rank": 1, "code": 75, "sentence": "stopped by SIGUSR1"}')
    assert run_failing(failure_of({0: 75, 1: 75}), capsys) == (75, "error: stopped by SIGUSR1\n")
    assert run_failing(failure_of({0: -15, 1: 75}), capsys) == (75, "error: stopped by SIGUSR1\n")


def test_killed_rank_is_named_not_the_one_stopped_by_the_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    Path("error.json").write_text('{"rank": 0, "code": 75, "sentence": "stopped by SIGTERM"}')
    killed = "error: rank 1 of 2: killed (SIGKILL, perhaps out of memory); --resume continues the run\n"
    assert run_failing(failure_of({0: 75, 1: -9}), capsys) == (70, killed)


def test_rank_killed_by_the_launcher_is_not_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    Path("error.json").write_text('{"rank": 1, "code": 130, "sentence": "interrupted"}')
    assert run_failing(failure_of({0: -9, 1: 130}), capsys) == (130, "")
