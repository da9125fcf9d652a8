"""The marks of launchers: more than one process is told apart from what a launcher of one has left."""

from __future__ import annotations

from llmkit.runs.launchers import SIZES, several


def test_only_a_number_above_one_is_several() -> None:
    assert several({"WORLD_SIZE": "1", "PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "0", "LOCAL_RANK": "3"}) == {}
    assert several(dict.fromkeys(SIZES, " 2 ")) == dict.fromkeys(SIZES, " 2 ")
    assert several({"WORLD_SIZE": "many"}) == {"WORLD_SIZE": "many"}  # Accelerate would fail on it
