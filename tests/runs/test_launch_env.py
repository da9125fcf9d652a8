"""Tests of the rank and the world size that launchers set in the environment, and of rejected values."""

from __future__ import annotations

import pytest

from llmkit.errors import UsageError
from llmkit.runs.launch_env import (
    WORLD_SIZE_VARIABLES,
    ProcessGrid,
    RankInfo,
    find_multiprocess_variables,
    parse_first_host,
    read_rank_info,
)

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77",
         "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[03-04]"}  # fmt: skip


def get_error(variables: dict[str, str]) -> str:
    with pytest.raises(UsageError) as caught:
        read_rank_info(variables)
    return str(caught.value)


def test_only_a_number_above_one_means_several_processes() -> None:
    assert (
        find_multiprocess_variables({"WORLD_SIZE": "1", "PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "0", "LOCAL_RANK": "3"})
        == {}
    )
    assert find_multiprocess_variables(dict.fromkeys(WORLD_SIZE_VARIABLES, " 2 ")) == dict.fromkeys(
        WORLD_SIZE_VARIABLES, " 2 "
    )
    assert find_multiprocess_variables({"WORLD_SIZE": "many"}) == {"WORLD_SIZE": "many"}  # Accelerate would fail on it


def test_the_rank_is_read_from_torchrun_or_slurm() -> None:
    assert read_rank_info({}) is None
    assert read_rank_info(TORCHRUN | SLURM) == RankInfo(1, 4, 1, "node1", 29500)
    assert read_rank_info(SLURM) == RankInfo(1, 2, 0, "gpu03", 20_000 + 77 * 16)
    assert read_rank_info(SLURM | {"MASTER_ADDR": "x", "MASTER_PORT": "1"}) == RankInfo(1, 2, 0, "x", 1)
    assert read_rank_info(TORCHRUN).to_torchrun_variables() == TORCHRUN  # type: ignore[union-attr]


def test_a_batch_script_of_slurm_is_one_process() -> None:
    assert read_rank_info({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "77"}) is None


def test_a_launcher_without_a_rank_is_rejected() -> None:
    assert get_error({"WORLD_SIZE": "2"}) == (
        "started as several processes (WORLD_SIZE=2) without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; "
        "start it with --processes, torchrun or srun, or unset WORLD_SIZE"
    )
    assert get_error({"OMPI_COMM_WORLD_SIZE": "2"}) == (
        "started as several processes (OMPI_COMM_WORLD_SIZE=2); "
        "start it with --processes, torchrun or srun, or unset OMPI_COMM_WORLD_SIZE"
    )
    assert get_error(TORCHRUN | {"WORLD_SIZE": "many"}).startswith(
        "started as several processes, and some values are not numbers: RANK=1, WORLD_SIZE=many"
    )


def test_incomplete_variables_are_named() -> None:
    fix = "start it with srun, or unset SLURM_STEP_NUM_TASKS"
    what = (
        "started as several tasks of Slurm (SLURM_STEP_NUM_TASKS=2, SLURM_LOCALID=0, SLURM_JOB_ID=0, SLURM_STEP_ID=0)"
    )
    assert get_error({"SLURM_STEP_NUM_TASKS": "2"}) == f"{what} without a number in SLURM_PROCID; {fix}"
    message = get_error(SLURM | {"SLURM_STEP_NUM_TASKS": "two"})
    assert message.endswith(f" without a number in SLURM_STEP_NUM_TASKS; {fix}")
    assert " without a number in MASTER_PORT; " in get_error(SLURM | {"MASTER_PORT": "http"})
    assert get_error(TORCHRUN | {"RANK": "7"}).startswith("started as rank 7 of 4 processes; ranks start at 0; ")


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("gpu[03-07,11],cpu1", "gpu03"), ("a1,a2", "a1"), ("one", "one"), ("n[1,5]-x", "n1-x"), ("10.0.0.1", "10.0.0.1")],
)
def test_the_first_host_of_a_slurm_list(nodes: str, host: str) -> None:
    assert parse_first_host(nodes) == host


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (ProcessGrid(0), "--processes 0: at least 1"),
        (ProcessGrid(2, 0), "--machines 0: at least 1"),
        (ProcessGrid(2, 2, 2, "a"), "--rank 2: out of range for 2 machines; ranks start at 0"),
        (ProcessGrid(2, 2), "--machines without --main-address; name the machine of --rank 0, as HOST or HOST:PORT"),
    ],
)
def test_contradicting_numbers_are_rejected(grid: ProcessGrid, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid.validate()
    assert str(caught.value) == message


def test_the_address_of_the_first_machine() -> None:
    assert ProcessGrid().resolve_main_address() == ("127.0.0.1", 29_500)
    assert ProcessGrid(main_address="node1").resolve_main_address() == ("node1", 29_500)
    assert ProcessGrid(main_address="node1:7").resolve_main_address() == ("node1", 7)


def test_which_process_launches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SLURM):
        monkeypatch.delenv(name, raising=False)
    assert not ProcessGrid().should_launch()
    assert ProcessGrid(2).should_launch()
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert ProcessGrid(4, 2, 1, "gpu03").should_launch()  # one task on each machine
    assert not ProcessGrid(2).should_launch()  # one task for each process
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert not ProcessGrid(4).should_launch()
    with pytest.raises(UsageError) as caught:
        ProcessGrid(3).should_launch()
    assert str(caught.value) == (
        "--processes and --machines request 3, and a launcher has started 4; "
        "leave them out with torchrun, accelerate launch or srun"
    )
