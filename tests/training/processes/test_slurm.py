"""Tests the Slurm batch script in a real bash with fake srun and scontrol."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from llmkit.errors import UsageError
from llmkit.training.processes.slurm import SlurmResources, build_slurm_script

UNUSUAL_ARGS = ["my recipe.yaml", "data.train=it's $HOME `x`.csv", "--output-dir", "/shared/a b"]


def run_script(text: str, code: int = 0) -> tuple[list[str], int, bool]:
    """Run the script; return the arguments of `llmkit`, the exit code, and whether the job is requeued."""
    programs_folder = Path("bin")
    programs_folder.mkdir(exist_ok=True)
    programs = {
        "srun": 'shift\nexec "$@"',
        "scontrol": 'if [ "$1" = requeue ]; then touch requeued; else printf "gpu03\\ngpu04\\n"; fi',
        "llmkit": f'printf "%s\\0" "$@" > args\nexit {code}',
    }
    for name, body in programs.items():
        (programs_folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs_folder / name).chmod(0o755)
    Path("job.sh").write_text(text)
    variables = {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[03-04]", "SLURM_JOB_ID": "7"}
    path = {"PATH": f"{programs_folder.resolve()}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "job.sh"], env=os.environ | variables | path, check=False)
    return Path("args").read_text().split("\0")[:-1], done.returncode, Path("requeued").exists()


@pytest.mark.slow
def test_arguments_are_passed_unchanged() -> None:
    assert run_script(build_slurm_script(UNUSUAL_ARGS, SlurmResources(), "x")) == (
        ["train", *UNUSUAL_ARGS, "--processes", "1"],
        0,
        False,
    )


@pytest.mark.slow
def test_each_machine_gets_its_rank_and_the_main_address() -> None:
    args, *_ = run_script(build_slurm_script(["r"], SlurmResources(machines=2, processes=4), "x"))
    assert args == ["train", "r", "--processes", "4", "--machines", "2", "--rank", "1",
                     "--main-address", "gpu03:29500"]  # fmt: skip


@pytest.mark.slow
def test_stopped_run_is_requeued_and_failed_one_is_not() -> None:
    assert run_script(build_slurm_script(["r"], SlurmResources(), "x"), 65)[1:] == (65, False)
    assert run_script(build_slurm_script(["r"], SlurmResources(), "x"), 75)[1:] == (75, True)


def test_sbatch_options() -> None:
    lines = build_slurm_script(["r"], SlurmResources(2, 4, "1-00:00:00", "gpu", 6), "my\nrun; rm").split("\n")
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=my-run-rm",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=24",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --time=1-00:00:00",
        "#SBATCH --partition=gpu",
        "#SBATCH --signal=USR1@120",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=%x-%j.log",
        "#SBATCH --requeue",
    ]
    assert "gpus-per-node" not in build_slurm_script(["r"], SlurmResources(gpus=False), "x")


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (SlurmResources(machines=0), "--machines 0: at least 1"),
        (SlurmResources(time="soon"), "--time soon: not a Slurm time limit; write HH:MM:SS, D-HH:MM:SS or minutes"),
        (SlurmResources(partition="a b"), "--partition a b: not a partition name; `sinfo` lists them"),
    ],
)
def test_values_that_slurm_rejects_are_rejected(cluster: SlurmResources, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_slurm_script(["r"], cluster, "x")
    assert str(caught.value) == message
