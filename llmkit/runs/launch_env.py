"""Environment variables of launchers: the rank of this process, the world size, and the address of rank 0."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from llmkit.errors import UsageError

# The launchers' variables for the number of processes; Accelerate reads each of them.
WORLD_SIZE_VARIABLES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# By LOCAL_RANK alone Accelerate considers a run one of several processes, and waits for the others.
LAUNCHER_VARIABLES = (*WORLD_SIZE_VARIABLES, "LOCAL_RANK")
# The variables that torchrun, `accelerate launch` and llmkit itself set.
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
DEFAULT_PORT = 29_500  # of the main machine; torchrun's own default
COMMAND_VARIABLE = "LLMKIT_COMMAND"  # set for the processes that llmkit itself starts: the command that the user typed
# The variables of a Slurm step (task, number of tasks, task on its machine, job, step) with their defaults.
SLURM_VARIABLES = {
    "SLURM_PROCID": None,
    "SLURM_STEP_NUM_TASKS": None,
    "SLURM_LOCALID": "0",
    "SLURM_JOB_ID": "0",
    "SLURM_STEP_ID": "0",
}
FIRST_SLURM_PORT, SLURM_PORT_COUNT = 20_000, 20_000  # a Slurm step gets a port by its job and step number


@dataclass(frozen=True)
class RankInfo:
    """One process of several: its rank among all and on its machine, and where rank 0 is listening."""

    rank: int
    world_size: int
    local_rank: int
    main_address: str
    main_port: int

    def to_torchrun_variables(self) -> dict[str, str]:
        """The environment variables that torchrun would set."""
        values = (self.rank, self.world_size, self.local_rank, self.main_address, self.main_port)
        return dict(zip(TORCHRUN_VARIABLES, map(str, values), strict=True))


@dataclass(frozen=True)
class ProcessGrid:
    """The processes to start: how many on each machine, on how many machines, and which machine this is."""

    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    main_address: str | None = None  # of the first machine: HOST or HOST:PORT

    @property
    def world_size(self) -> int:
        """The number of processes on all machines together."""
        return self.processes * self.machines

    def validate(self) -> None:
        """Raise UsageError for numbers that contradict each other."""
        for name, number in (("processes", self.processes), ("machines", self.machines)):
            if number < 1:
                raise UsageError(f"--{name} {number}: at least 1")
        if not 0 <= self.machine_rank < self.machines:
            raise UsageError(
                f"--rank {self.machine_rank}: out of range for {self.machines} machines", "ranks start at 0"
            )
        if self.machines > 1 and self.main_address is None:
            raise UsageError("--machines without --main-address", "name the machine of --rank 0, as HOST or HOST:PORT")

    def resolve_main_address(self) -> tuple[str, int]:
        """Host and port of the first machine."""
        host, colon, port = (self.main_address or "127.0.0.1").rpartition(":")
        if not colon:
            return port, DEFAULT_PORT
        if not port.isdigit():
            what = f"--main-address {self.main_address}: no port after the colon"
            raise UsageError(what, "write HOST or HOST:PORT")
        return host, int(port)

    def should_launch(self) -> bool:
        """Whether this process must start the others. Raises UsageError where a launcher has started another number."""
        self.validate()
        info = read_rank_info(os.environ)
        if info is None or self.world_size == 1 or COMMAND_VARIABLE in os.environ:
            return info is None and self.world_size > 1
        if "RANK" not in os.environ and self.machines > 1:
            return True  # a Slurm step of one task a machine: each starts its own
        if self.world_size != info.world_size:
            what = f"--processes and --machines request {self.world_size}, and a launcher has started {info.world_size}"
            raise UsageError(what, "leave them out with torchrun, accelerate launch or srun")
        return False


def find_multiprocess_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of `WORLD_SIZE_VARIABLES` that announce more than one process, with their values."""
    return {
        name: variables[name] for name in WORLD_SIZE_VARIABLES if variables.get(name, "1").strip() not in ("", "0", "1")
    }


def read_rank_info(variables: Mapping[str, str]) -> RankInfo | None:
    """The rank of this process, by torchrun's variables or those of a Slurm step; None where it is the only process.

    Raises UsageError where a launcher has started several processes without a variable for their rank.
    """
    announced = find_multiprocess_variables(variables)
    if "WORLD_SIZE" in announced:
        return read_torchrun_variables(variables)
    if variables.get("SLURM_STEP_NUM_TASKS", "1").strip() not in ("", "0", "1"):
        return read_slurm_variables(variables)
    if announced:
        raise UsageError(
            f"started as several processes ({format_variables(announced)})", suggest_launcher_fix(announced)
        )
    return None


def read_torchrun_variables(variables: Mapping[str, str]) -> RankInfo:
    """The rank that torchrun, `accelerate launch` or llmkit itself has set. Raises UsageError."""
    announced = find_multiprocess_variables(variables)
    missing = [name for name in TORCHRUN_VARIABLES if not variables.get(name, "").strip()]
    if missing:
        what = f"started as several processes ({format_variables(announced)}) without {', '.join(missing)}"
        raise UsageError(what, suggest_launcher_fix(announced))
    try:
        rank, size, local, port = (int(variables[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
    except ValueError:
        values = format_variables({name: variables[name] for name in TORCHRUN_VARIABLES})
        what = f"started as several processes, and some values are not numbers: {values}"
        raise UsageError(what, suggest_launcher_fix(announced)) from None
    if not 0 <= rank < size:
        what = f"started as rank {rank} of {size} processes"
        raise UsageError(what, "ranks start at 0; " + suggest_launcher_fix(announced))
    return RankInfo(rank, size, local, variables["MASTER_ADDR"], port)


def read_slurm_variables(variables: Mapping[str, str]) -> RankInfo:
    """The rank of a task that `srun` has started; a batch script's variables alone are no step. Raises UsageError."""
    port = variables.get("MASTER_PORT") or "0"
    numbers = {name: variables.get(name, default) for name, default in SLURM_VARIABLES.items()}
    numbers |= {} if port == "0" else {"MASTER_PORT": port}
    wrong = {name: value for name, value in numbers.items() if not (value or "").strip().isdigit()}
    if wrong:
        values = format_variables({name: value for name, value in numbers.items() if value is not None})
        what = f"started as several tasks of Slurm ({values}) without a number in {', '.join(wrong)}"
        raise UsageError(what, "start it with srun, or unset SLURM_STEP_NUM_TASKS")
    rank, size, local, job, step = (int(numbers[name] or 0) for name in SLURM_VARIABLES)
    return RankInfo(
        rank,
        size,
        local,
        variables.get("MASTER_ADDR") or parse_first_host(variables.get("SLURM_STEP_NODELIST", "127.0.0.1")),
        int(port) or FIRST_SLURM_PORT + (job * 16 + step) % SLURM_PORT_COUNT,
    )


def parse_first_host(nodes: str) -> str:
    """The first machine of a Slurm node list: `gpu[03-07,11],cpu1` gives `gpu03`."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return nodes if match is None else match[1] + (match[2] or "") + match[3]


def format_variables(announced: Mapping[str, str]) -> str:
    """The variables as `NAME=VALUE, NAME=VALUE`."""
    return ", ".join(f"{name}={value}" for name, value in announced.items())


def suggest_launcher_fix(announced: Mapping[str, str]) -> str:
    """The fix for the variables of a launcher that llmkit does not know."""
    return f"start it with --processes, torchrun or srun, or unset {' '.join(announced)}"
