"""A few trials of each kind of fault, as `make faults` makes hundreds; and that a fault which does harm is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = ("classify", "mlm")
HARNESS = (
    "import runpy, sys; sys.argv = ['faults', *sys.argv[1:]]; runpy.run_module('tests.faults', run_name='__main__')"
)
TRUSTING = """
import json
from llmkit.runs import commit
commit.verified = lambda path: commit.Commit(path, json.loads((path / commit.MANIFEST).read_text()))
"""
OTHER_CHANCE = """
from llmkit.training import state
state.put_back_chance = lambda found: None
"""


def harness(folder: Path, *words: str, harm: str = "") -> tuple[int, list[str]]:
    """Exit code and output of `python -m tests.faults WORDS`, in an interpreter that `harm` was done to."""
    done = subprocess.run(
        [sys.executable, "-c", harm + HARNESS, *words],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    tasks = [word for task in TASKS for word in ("--task", task)]
    code, lines = harness(tmp_path_factory.mktemp("faults"), "--seed", "6", "--most", "2", *tasks)
    assert code == 0, "\n".join(lines)
    assert lines[0] == "seed 6"
    return lines


@pytest.mark.parametrize("task", TASKS)
def test_faulted_runs_end_like_the_reference_run(sample: list[str], task: str) -> None:
    tally = [line for line in sample[-11:] if line.startswith(task)]
    held = [f"{task:<10} {kind:<7} 2 of 2 held" for kind in ("kill", "write", "damage", "full", "signal")]
    assert [line for line in tally if "full" not in line] == [line for line in held if "full" not in line]
    if any("NOT RUN" in line for line in tally):
        pytest.skip(f"the full disk was not tried: {next(line for line in tally if 'NOT RUN' in line)}")
    assert tally == held


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "kind", "number"), [(TRUSTING, "damage", "9"), (OTHER_CHANCE, "signal", "3")], ids=["hash", "chance"]
)
def test_failed_trial_prints_its_repeat_command(
    tmp_path: Path, harm: str, kind: str, number: str
) -> None:
    words = ["--seed", "1", "--task", "classify", "--kind", kind, "--number", number]
    code, lines = harness(tmp_path, *words, harm=harm)
    assert code == 1
    assert lines[1:3] == [
        f"classify {kind} {number} did not hold: log.jsonl is not that of the unbroken run",
        f"  repeat it: {sys.executable} -m tests.faults {' '.join(words)}",
    ]
    assert lines[-1] == "0 of 1 held"
