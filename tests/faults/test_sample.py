"""Tests a few trials of each fault kind (`make faults` runs hundreds), and that a harmful fault is detected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TASKS = ("classify", "mlm")
RUN_FAULTS = (
    "import runpy, sys; sys.argv = ['faults', *sys.argv[1:]]; runpy.run_module('tests.faults', run_name='__main__')"
)
SKIP_VERIFICATION = """
import json
from llmkit.runs import checkpoint as c
c.verify_checkpoint = lambda path: c.Checkpoint(path, json.loads((path / c.CHECKPOINT_MANIFEST).read_text()))
"""
SKIP_RNG_RESTORE = """
from llmkit.training.checkpoints import state_dict
state_dict.restore_rng_state = lambda state: None
"""


def run_harness(folder: Path, *args: str, harmful_code: str = "") -> tuple[int, list[str]]:
    """Return exit code and output of `python -m tests.faults ARGS`, after running `harmful_code` in the same interpreter."""
    finished = subprocess.run(
        [sys.executable, "-c", harmful_code + RUN_FAULTS, *args],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return finished.returncode, finished.stdout.splitlines()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    tasks = [word for task in TASKS for word in ("--task", task)]
    code, lines = run_harness(tmp_path_factory.mktemp("faults"), "--seed", "6", "--most", "2", *tasks)
    assert code == 0, "\n".join(lines)
    assert lines[0] == "seed 6"
    return lines


@pytest.mark.parametrize("task", TASKS)
def test_faulted_runs_end_like_the_reference_run(sample: list[str], task: str) -> None:
    tally = [line for line in sample[-11:] if line.startswith(task)]
    expected = [f"{task:<10} {kind:<7} 2 of 2 passed" for kind in ("kill", "write", "damage", "full", "signal")]
    assert [line for line in tally if "full" not in line] == [line for line in expected if "full" not in line]
    if any("NOT RUN" in line for line in tally):
        pytest.skip(f"the full disk was not tried: {next(line for line in tally if 'NOT RUN' in line)}")
    assert tally == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("harmful_code", "kind", "number"),
    [(SKIP_VERIFICATION, "damage", "9"), (SKIP_RNG_RESTORE, "signal", "3")],
    ids=["hash", "rng"],
)
def test_failed_trial_prints_its_repeat_command(tmp_path: Path, harmful_code: str, kind: str, number: str) -> None:
    args = ["--seed", "1", "--task", "classify", "--kind", kind, "--number", number]
    code, lines = run_harness(tmp_path, *args, harmful_code=harmful_code)
    assert code == 1
    assert lines[1:3] == [
        f"classify {kind} {number} failed: log.jsonl differs from the reference run",
        f"  repeat it: {sys.executable} -m tests.faults {' '.join(args)}",
    ]
    assert lines[-1] == "0 of 1 passed"
