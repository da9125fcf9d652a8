"""What a launcher leaves in the environment: llmkit trains on one process, and is told where it is one of several."""

from __future__ import annotations

from collections.abc import Mapping

# The launchers' words for the number of processes; Accelerate goes by each of them.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# By LOCAL_RANK alone Accelerate takes a run for one of several processes, and waits for the others.
MARKS = (*SIZES, "LOCAL_RANK")


def several(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables `SIZES` that speak of more than one process, with their values."""
    return {name: variables[name] for name in SIZES if variables.get(name, "1").strip() not in ("", "0", "1")}
