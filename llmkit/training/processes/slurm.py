"""Generates a Slurm batch script that runs a recipe with `sbatch`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from llmkit.errors import UsageError

WARNING_SECONDS = 120  # before the time limit Slurm sends a signal, upon which the run saves and exits
TIME_LIMIT_PATTERN = re.compile(r"\d+|(\d+-)?\d{1,2}(:\d{2}){1,2}|\d+-\d{1,2}|\d+:\d{2}")


@dataclass(frozen=True)
class SlurmResources:
    """Resources to request from Slurm."""

    machines: int = 1
    processes: int = 1  # on each machine
    time: str = "04:00:00"
    partition: str | None = None
    cpus: int = 8  # cores for each process
    gpus: bool = True


def build_slurm_script(args: Sequence[str], cluster: SlurmResources, name: str) -> str:
    """Build the batch script that runs `llmkit train` with these arguments, each quoted for the shell.

    Raises UsageError for resources that Slurm would reject.
    """
    check_slurm_resources(cluster)
    options = {
        "job-name": re.sub(r"[^\w.-]+", "-", name).strip("-") or "llmkit",
        "nodes": cluster.machines,
        "ntasks-per-node": 1,
        "cpus-per-task": cluster.cpus * cluster.processes,
        "gpus-per-node": cluster.processes if cluster.gpus else None,
        "time": cluster.time,
        "partition": cluster.partition,
        "signal": f"USR1@{WARNING_SECONDS}",
        "open-mode": "append",  # a requeued job appends to its log
        "output": "%x-%j.log",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None] + ["#SBATCH --requeue"]
    command = ["llmkit", "train", *args, "--processes", str(cluster.processes)]
    machine_args = ["--machines", "$SLURM_NNODES", "--rank", "$SLURM_NODEID", "--main-address", "$LLMKIT_MAIN"]
    inner = shlex.join(command) + (f" {' '.join(machine_args)}" if cluster.machines > 1 else "")
    return "\n".join([
        "#!/bin/bash",
        *lines,
        "",
        "# One task per machine; each starts its own processes. At the time limit all processes save the same step and",
        "# exit with code 75: the job is then requeued and resumes.",
        "set -u",
        *(['LLMKIT_MAIN="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500"', "export LLMKIT_MAIN"]
          if cluster.machines > 1 else []),
        f"srun --kill-on-bad-exit=1 bash -c {shlex.quote('exec ' + inner)}",
        "code=$?",
        'if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        'exit "$code"',
        "",
    ])  # fmt: skip


def check_slurm_resources(cluster: SlurmResources) -> None:
    """Raise UsageError for an invalid number of machines, time limit or partition name."""
    for what, number in (("machines", cluster.machines), ("processes", cluster.processes), ("cpus", cluster.cpus)):
        if number < 1:
            raise UsageError(f"--{what} {number}: at least 1")
    if not TIME_LIMIT_PATTERN.fullmatch(cluster.time):
        raise UsageError(f"--time {cluster.time}: not a Slurm time limit", "write HH:MM:SS, D-HH:MM:SS or minutes")
    if cluster.partition is not None and not re.fullmatch(r"[\w.,-]+", cluster.partition):
        raise UsageError(f"--partition {cluster.partition}: not a partition name", "`sinfo` lists them")
