"""What a launcher leaves in the environment: which process of a run this is, and where the others are found."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from llmkit.errors import UsageError

# The launchers' words for the number of processes; Accelerate goes by each of them.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# By LOCAL_RANK alone Accelerate takes a run for one of several processes, and waits for the others.
MARKS = (*SIZES, "LOCAL_RANK")
# What torchrun, `accelerate launch` and llmkit itself set, and what each is.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PORT = 29_500  # where the first machine listens, unless told otherwise; torchrun's own
COMMAND = "LLMKIT_COMMAND"  # set for the processes that llmkit itself starts: the command that the user typed
# Of a Slurm step: which task this is, of how many, which on its machine, the job, the step; what each is if not said.
SLURM = {
    "SLURM_PROCID": None,
    "SLURM_STEP_NUM_TASKS": None,
    "SLURM_LOCALID": "0",
    "SLURM_JOB_ID": "0",
    "SLURM_STEP_ID": "0",
}
FIRST_PORT, PORTS = 20_000, 20_000  # a Slurm step takes the one that follows from its number


@dataclass(frozen=True)
class Place:
    """One process of several: its number among all and on its machine, and where the first is listening."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int

    def as_variables(self) -> dict[str, str]:
        """The place as torchrun would say it."""
        values = (self.rank, self.size, self.local_rank, self.address, self.port)
        return dict(zip(TORCHRUN, map(str, values), strict=True))


@dataclass(frozen=True)
class Places:
    """How many processes there are to be: on each machine, and on how many, of which this is number `rank`."""

    processes: int = 1
    machines: int = 1
    rank: int = 0
    address: str | None = None  # of the first machine: HOST or HOST:PORT

    @property
    def size(self) -> int:
        """All processes together."""
        return self.processes * self.machines

    def check(self) -> None:
        """Raise UsageError for numbers that do not go together."""
        for name, number in (("processes", self.processes), ("machines", self.machines)):
            if number < 1:
                raise UsageError(f"--{name} {number}: at least 1")
        if not 0 <= self.rank < self.machines:
            raise UsageError(f"--rank {self.rank}: of {self.machines} machines", "they are counted from 0")
        if self.machines > 1 and self.address is None:
            raise UsageError("--machines without --main-address", "name the machine of --rank 0, as HOST or HOST:PORT")

    def main(self) -> tuple[str, int]:
        """Host and port of the first machine."""
        host, colon, port = (self.address or "127.0.0.1").rpartition(":")
        if not colon:
            return port, PORT
        if not port.isdigit():
            raise UsageError(f"--main-address {self.address}: no port after the colon", "write HOST or HOST:PORT")
        return host, int(port)

    def to_start(self) -> bool:
        """Whether this process is to start others. Raises UsageError where a launcher has started another number."""
        self.check()
        found = place(os.environ)
        if found is None or self.size == 1 or COMMAND in os.environ:
            return found is None and self.size > 1
        if "RANK" not in os.environ and self.machines > 1:
            return True  # a Slurm step of one task a machine: each starts its own
        if self.size != found.size:
            what = f"--processes and --machines ask for {self.size}, and a launcher has started {found.size}"
            raise UsageError(what, "leave them out beside torchrun, accelerate launch or srun")
        return False


def several(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables `SIZES` that speak of more than one process, with their values."""
    return {name: variables[name] for name in SIZES if variables.get(name, "1").strip() not in ("", "0", "1")}


def place(variables: Mapping[str, str]) -> Place | None:
    """This process's place, by torchrun's variables or those of a Slurm step; None where it is the only one.

    Raises UsageError where a launcher has started several and does not say which one this is.
    """
    found = several(variables)
    if "WORLD_SIZE" in found:
        return of_torchrun(variables)
    if variables.get("SLURM_STEP_NUM_TASKS", "1").strip() not in ("", "0", "1"):
        return of_slurm(variables)
    if found:
        raise UsageError(f"started as several processes ({said(found)})", mend(found))
    return None


def of_torchrun(variables: Mapping[str, str]) -> Place:
    """The place that torchrun, `accelerate launch` or llmkit itself has set."""
    missing = [name for name in TORCHRUN if not variables.get(name, "").strip()]
    if missing:
        what = f"started as several processes ({said(several(variables))}) without {', '.join(missing)}"
        raise UsageError(what, mend(several(variables)))
    try:
        rank, size, local, port = (int(variables[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
    except ValueError:
        what = f"started as several processes, and not all are numbers: {said({k: variables[k] for k in TORCHRUN})}"
        raise UsageError(what, mend(several(variables))) from None
    if not 0 <= rank < size:
        what = f"started as rank {rank} of {size} processes"
        raise UsageError(what, "they are counted from 0; " + mend(several(variables)))
    return Place(rank, size, local, variables["MASTER_ADDR"], port)


def of_slurm(variables: Mapping[str, str]) -> Place:
    """The place of a task that `srun` has started. The variables of a batch script alone make no step."""
    port = variables.get("MASTER_PORT") or "0"
    numbers = {name: variables.get(name, first) for name, first in SLURM.items()}
    numbers |= {} if port == "0" else {"MASTER_PORT": port}
    wrong = {name: value for name, value in numbers.items() if not (value or "").strip().isdigit()}
    if wrong:
        shown = said({name: value for name, value in numbers.items() if value is not None})
        what = f"started as several tasks of Slurm ({shown}) without a number in {', '.join(wrong)}"
        raise UsageError(what, "start it with srun, or unset SLURM_STEP_NUM_TASKS")
    rank, size, local, job, step = (int(numbers[name] or 0) for name in SLURM)
    return Place(
        rank,
        size,
        local,
        variables.get("MASTER_ADDR") or first_host(variables.get("SLURM_STEP_NODELIST", "127.0.0.1")),
        int(port) or FIRST_PORT + (job * 16 + step) % PORTS,
    )


def first_host(nodes: str) -> str:
    """The first machine of a Slurm list: `gpu[03-07,11],cpu1` gives `gpu03`."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return nodes if match is None else match[1] + (match[2] or "") + match[3]


def said(found: Mapping[str, str]) -> str:
    """The variables as a shell shows them."""
    return ", ".join(f"{name}={value}" for name, value in found.items())


def mend(found: Mapping[str, str]) -> str:
    """What to do about a launcher that llmkit does not know."""
    return f"start it with --processes, torchrun or srun, or unset {' '.join(found)}"
