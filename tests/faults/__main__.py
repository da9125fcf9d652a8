"""Injects faults into runs, repeats the command, and compares with an uninterrupted run: python -m tests.faults

A failed trial prints the command that repeats it. The exit code is 1 if a trial failed.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Before torch is imported: a forked child needs a single-threaded parent.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

from tests.faults import child, kinds
from tests.faults.kinds import FAULT_KINDS, RUN, ReferenceRun, Tally, Trial
from tests.faults.tasks import KEYS, TASKS

DISK_SIZE = "88m"  # of the small disk: a run needs 64 MiB and the size of its weights to start


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--task", action="append", choices=TASKS, help="one of the tasks; may be given again")
    parser.add_argument(
        "--kind", action="append", choices=FAULT_KINDS, help="one of the fault kinds; may be given again"
    )
    parser.add_argument("--number", type=int, help="run only this trial")
    parser.add_argument("--times", type=int, default=1, help="repetitions of each trial [1]")
    parser.add_argument("--kills", type=int, default=50, help="kills at random moments, for each task [50]")
    parser.add_argument("--most", type=int, help="maximum number of trials per kind and task, chosen by the seed")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="seed of all random choices")
    args = parser.parse_args()
    if args.number is not None and not (args.task and args.kind):
        parser.error("--number needs its --task and --kind")
    return args


@contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """Mount a small disk at `folder`; yield the error message if that fails, else an empty string."""
    folder.mkdir()
    args = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(folder)]
    try:
        finished = subprocess.run(args, capture_output=True, text=True, check=False)
        problem = finished.stderr.strip() if finished.returncode else ""
    except OSError as error:
        problem = str(error)
    try:
        yield problem
    finally:
        if not problem:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_reference_run(name: str, work: Path) -> ReferenceRun:
    """Make the uninterrupted reference run of a task: the second one, after the first has loaded all imports."""
    folder = work / name
    folder.mkdir()
    child.run_in_child(TASKS[name].make, folder)
    args = [*(str(folder / word) if word.startswith("data.") and "=" not in word else word for word in TASKS[name].args),
             "--model", str(folder / "model"), "-o", RUN, *KEYS]  # fmt: skip
    warm_up = folder / "first"
    warm_up.mkdir()
    child.record_run(args, warm_up, folder / "first.err")
    outcome, events = child.record_run(args, folder, folder / "err")
    if kinds.collect_result(warm_up / RUN) != kinds.collect_result(folder / RUN):
        raise SystemExit(f"{name}: two uninterrupted runs differ: nothing can be compared with them")
    return ReferenceRun(args, folder, outcome, events)


def choose_trials(reference: ReferenceRun, task: str, kind: str, args: argparse.Namespace) -> list[int]:
    """Choose the trial numbers of a kind."""
    if args.number is not None:
        return [args.number]
    numbers = [*FAULT_KINDS[kind].numbers(reference, args.kills)]
    if args.most is None or args.most >= len(numbers):
        return numbers
    return sorted(random.Random(f"{args.seed}/{task}/{kind}").sample(numbers, args.most))


def run_trials(task: str, kind: str, reference: ReferenceRun, trial_folder: Path, args: argparse.Namespace) -> Tally:
    """Run the trials of a kind and print each failure at once."""
    tally = Tally()
    for number in [one for one in choose_trials(reference, task, kind, args) for _ in range(args.times)]:
        rng = random.Random(f"{args.seed}/{task}/{kind}/{number}")
        folder, err = trial_folder / f"{task}-{kind}-{number}", reference.home / f"{kind}-{number}.err"
        err.unlink(missing_ok=True)
        folder.mkdir()
        problem = kinds.run_trial(Trial(reference, number, folder, err, rng), FAULT_KINDS[kind])
        tally.total += 1
        tally.passed += not problem
        if problem:
            print(
                f"{task} {kind} {number} failed: {problem}\n"
                f"  repeat it: {format_repeat_command(task, kind, number, args.seed)}"
            )
            stderr = err.read_text("utf-8", "replace") if err.exists() else ""
            print("\n".join(["  stderr of its runs:", *(f"    {line}" for line in stderr.splitlines())]), flush=True)
    return tally


def format_repeat_command(task: str, kind: str, number: int, seed: int) -> str:
    """Return the command that repeats a trial; a moment in CPU time is reproduced within some milliseconds only."""
    repetitions = " --times 20" if kind == "kill" else ""
    return f"{sys.executable} -m tests.faults --seed {seed} --task {task} --kind {kind} --number {number}{repetitions}"


def main() -> int:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the small disk is unmounted
    print(f"seed {args.seed}", flush=True)
    tallies: dict[tuple[str, str], Tally] = {}
    with TemporaryDirectory(prefix="llmkit-faults-") as name, small_disk(Path(name) / "disk") as disk_error:
        work = Path(name)
        (work / "trials").mkdir()
        for task in args.task or TASKS:
            reference = make_reference_run(task, work)
            for kind in args.kind or FAULT_KINDS:
                trial_folder = work / ("disk" if kind == "full" else "trials")
                no_disk = kind == "full" and disk_error
                tallies[task, kind] = (
                    Tally(not_run=disk_error) if no_disk else run_trials(task, kind, reference, trial_folder, args)
                )
                print(format_tally(task, kind, tallies[task, kind]), flush=True)
    passed, total = sum(tally.passed for tally in tallies.values()), sum(tally.total for tally in tallies.values())
    for task, kind in tallies:
        print(format_tally(task, kind, tallies[task, kind]))
    missing = sum(bool(tally.not_run) for tally in tallies.values())
    print(f"{passed} of {total} passed" + (f"; {missing} kinds of fault were NOT RUN" if missing else ""))
    return 0 if passed == total else 1


def format_tally(task: str, kind: str, tally: Tally) -> str:
    return f"{task:<10} {kind:<7} " + (
        f"NOT RUN: {tally.not_run}" if tally.not_run else f"{tally.passed} of {tally.total} passed"
    )


if __name__ == "__main__":
    sys.exit(main())
