"""Launches the processes of a run: the same command once per process, by torchrun on CPUs and Accelerate on GPUs.

`accelerate launch --cpu` silently starts a single process whatever number is requested, so CPUs use torchrun.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmkit import console, tasks
from llmkit.errors import UsageError
from llmkit.recipe import catalog
from llmkit.recipe.load import dump_given_keys
from llmkit.runs import distributed, launch_env
from llmkit.runs.launch_env import ProcessGrid
from llmkit.schema import Recipe
from llmkit.training.processes import strategies
from llmkit.training.setup import model as setup_model

# The launcher forwards these signals to every process.
FORWARDED_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
SHUTDOWN_SECONDS = 300  # a process has this long to save after a signal before it is killed
# Exit codes of a job whose launcher received a signal, and of one with a killed process.
STOPPED_EXIT_CODE, KILLED_EXIT_CODE = 75, 70


def launch_processes(recipe: Recipe, grid: ProcessGrid, flags: Sequence[str] = ()) -> int:
    """Launch the run on all processes and return its exit code; `flags` are the command's flags besides the recipe.

    Raises an LlmkitError for mistakes in the recipe or for the machine before any process starts.
    """
    from llmkit.models.device import get_device

    device = get_device().type
    check_launch(recipe, grid, device)
    recipe, _ = setup_model.choose_model(recipe, tasks.load_task(recipe.task)(recipe.options))
    with TemporaryDirectory(prefix="llmkit-launch-") as scratch:
        resolved, error_file = Path(scratch) / "recipe.yaml", Path(scratch) / "error.json"
        resolved.write_text(dump_given_keys(recipe), encoding="utf-8")
        command = ["-m", "llmkit", "train", str(resolved), *flags]
        with export_launch_environment(grid, device, error_file), silence_launcher_logs():
            return run_launcher(build_launcher(recipe.train.strategy, grid, device, command), grid, error_file)


def check_launch(recipe: Recipe, grid: ProcessGrid, device: str) -> None:
    """Raise RecipeError or UsageError if this machine cannot run that number of processes, or not by this strategy."""
    strategies.check_strategy(recipe.train.strategy, device, grid.world_size)
    if device == "mps":
        raise UsageError(f"--processes {grid.processes}: a Mac's GPU is used by one process", "leave it out")
    if device == "cuda":
        import torch

        available = torch.cuda.device_count()
        if grid.processes > available:
            what = f"--processes {grid.processes}: this machine has {available} GPU{'s' if available > 1 else ''}"
            raise UsageError(what, "start one process per GPU")


def build_launcher(strategy: str, grid: ProcessGrid, device: str, args: Sequence[str]) -> Callable[[], None]:
    """Return a function that starts the processes and waits for them; it raises if one fails."""
    if device == "cpu":
        from torch.distributed import run

        arguments = run.get_args_parser().parse_args([*build_torchrun_args(grid), *args])
        return lambda: run.run(arguments)
    from accelerate.commands.launch import launch_command, launch_command_parser

    profile = catalog.get_recipes_folder() / "profiles" / f"{strategy}.yaml"
    parsed = launch_command_parser().parse_args([*build_accelerate_args(grid, profile), *args])
    return lambda: launch_command(parsed)


def build_torchrun_args(grid: ProcessGrid) -> list[str]:
    """Build the arguments of torchrun."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signals = [name for name in FORWARDED_SIGNALS if name != "SIGHUP" or not nohup]
    args = [f"--nproc-per-node={grid.processes}", f"--signals-to-handle={','.join(signals)}"]
    if grid.machines == 1:
        return [*args, "--standalone", "--local-addr=127.0.0.1"]
    host, port = grid.resolve_main_address()
    return [*args, f"--nnodes={grid.machines}", f"--node-rank={grid.machine_rank}", f"--master-addr={host}",
            f"--master-port={port}"]  # fmt: skip


def build_accelerate_args(grid: ProcessGrid, profile: Path) -> list[str]:
    """Build the arguments of `accelerate launch`. llmkit sets the precision itself and passes its own profile, so the
    user's default config has no effect."""
    host, port = grid.resolve_main_address()
    return ["--config_file", str(profile), "--num_processes", str(grid.world_size),
            "--num_machines", str(grid.machines), "--machine_rank", str(grid.machine_rank),
            "--main_process_ip", host, "--main_process_port", str(port if grid.machines > 1 else 0),
            "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


@contextmanager
def export_launch_environment(grid: ProcessGrid, device: str, error_file: Path) -> Iterator[None]:
    """Set the environment variables of the processes inside the block; variables that the user has set are kept."""
    cores = os.cpu_count() or 1
    new = {
        distributed.PROCESSES_VARIABLE: str(grid.world_size),
        launch_env.COMMAND_VARIABLE: json.dumps(sys.argv),
        distributed.ERROR_FILE_VARIABLE: str(error_file),
    }
    defaults = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS)}
    if device == "cpu":
        defaults["OMP_NUM_THREADS"] = str(max(1, cores // grid.processes))
    if grid.machines == 1 and sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    new |= {name: value for name, value in defaults.items() if name not in os.environ}
    old = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def silence_launcher_logs() -> Iterator[None]:
    """Disable the launcher's log lines inside the block: llmkit prints one error message instead."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def run_launcher(run: Callable[[], None], grid: ProcessGrid, error_file: Path) -> int:
    """Run the launcher to its end and return the exit code; the error of a failed process is printed once."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run()
    except SignalException as stop:
        note = read_error_note(error_file)
        if note and note["code"] not in distributed.SIGNAL_EXIT_CODES:
            return int(note["code"])
        return report_signal_exit(
            f"stopped by {signal.Signals(stop.sigval).name}", 130 if stop.sigval == signal.SIGINT else STOPPED_EXIT_CODE
        )
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        return report_failed_processes(codes, grid.world_size, read_error_note(error_file))
    return 0


def report_signal_exit(what: str, code: int) -> int:
    """Print that a signal ended the job and return its exit code; for Ctrl-C the command line prints it."""
    if code != 130:
        console.print_error(what)
    return code


def report_failed_processes(codes: Mapping[int, int], size: int, note: Mapping[str, Any] | None) -> int:
    """Return the job's exit code from the failed ranks' codes and the recorded error, which is printed if it was not.

    `codes` maps ranks to exit codes; `note` is the error that a rank recorded, or None.
    """
    if note and note["code"] not in distributed.SIGNAL_EXIT_CODES:
        return int(note["code"])
    # When a process dies, the launcher sends SIGTERM to the others, and SIGKILL to those that do not exit.
    gone = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if note and not (gone and note["sentence"] == f"stopped by {signal.SIGTERM.name}"):
        return report_signal_exit(note["sentence"], int(note["code"]))
    rank = gone[0] if gone else min(codes, key=lambda one: codes[one] == -signal.SIGTERM)
    console.print_error(describe_failed_rank(rank, size, codes[rank]))
    return codes[rank] if codes[rank] > 0 else KILLED_EXIT_CODE


def read_error_note(error_file: Path) -> dict[str, Any] | None:
    """Read the error recorded by the first process that failed, or None if there is none."""
    if not error_file.exists():
        return None
    note: dict[str, Any] = json.loads(error_file.read_text(encoding="utf-8"))
    return note


def describe_failed_rank(rank: int, size: int, code: int) -> str:
    """Return the error message for a rank that printed none itself."""
    if code >= 0:
        return f"rank {rank} of {size}: exited with code {code} without an error message; run it with --debug"
    name = signal.Signals(-code).name
    cause = f"{name}, perhaps out of memory" if code == -signal.SIGKILL else name
    return f"rank {rank} of {size}: killed ({cause}); --resume continues the run"
