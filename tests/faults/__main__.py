"""Break runs in every way, give the same command again, and compare with the unbroken run: python -m tests.faults

A trial that does not hold prints the command that repeats it. Exit code 1 where one did not.
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

# Before torch is imported: a forked child needs a parent of one thread.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

from tests.faults import child, kinds
from tests.faults.kinds import FAULT_KINDS, RUN, ReferenceRun, Tally, Trial
from tests.faults.tasks import KEYS, TASKS

DISK_SIZE = "88m"  # of the small disk: a run asks for 64 MiB and its weights before it begins


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--task", action="append", choices=TASKS, help="one of the tasks; may be given again")
    parser.add_argument(
        "--kind", action="append", choices=FAULT_KINDS, help="one of the kinds of fault; may be given again"
    )
    parser.add_argument("--number", type=int, help="that trial alone")
    parser.add_argument("--times", type=int, default=1, help="make each trial so often, each time anew [1]")
    parser.add_argument("--kills", type=int, default=50, help="kills at random moments, for each task [50]")
    parser.add_argument("--most", type=int, help="at most so many trials of a kind for each task, chosen by the seed")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all chances")
    words = parser.parse_args()
    if words.number is not None and not (words.task and words.kind):
        parser.error("--number needs its --task and --kind")
    return words


@contextmanager
def small_disk(home: Path) -> Iterator[str]:
    """Mounts a small disk at `home`; says why not where it cannot."""
    home.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(home)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        why = done.stderr.strip() if done.returncode else ""
    except OSError as fault:
        why = str(fault)
    try:
        yield why
    finally:
        if not why:
            subprocess.run(["umount", "--lazy", str(home)], check=True)


def make_reference_run(name: str, work: Path) -> ReferenceRun:
    """The unbroken run of a task; the second that is made, when what it imports is imported."""
    home = work / name
    home.mkdir()
    child.run_in_child(TASKS[name].make, home)
    words = [*(str(home / word) if word.startswith("data.") and "=" not in word else word for word in TASKS[name].words),
             "--model", str(home / "model"), "-o", RUN, *KEYS]  # fmt: skip
    first = home / "first"
    first.mkdir()
    child.record_run(words, first, home / "first.err")
    ended, events = child.record_run(words, home, home / "err")
    if kinds.collect_result(first / RUN) != kinds.collect_result(home / RUN):
        raise SystemExit(f"{name}: two unbroken runs differ: nothing can be compared with them")
    return ReferenceRun(words, home, ended, events)


def choose_trials(whole: ReferenceRun, task: str, kind: str, words: argparse.Namespace) -> list[int]:
    """The trials to make of a kind."""
    if words.number is not None:
        return [words.number]
    found = [*FAULT_KINDS[kind].numbers(whole, words.kills)]
    if words.most is None or words.most >= len(found):
        return found
    return sorted(random.Random(f"{words.seed}/{task}/{kind}").sample(found, words.most))


def run_trials(task: str, kind: str, whole: ReferenceRun, place: Path, words: argparse.Namespace) -> Tally:
    """Make the trials of a kind; say at once what does not hold."""
    tally = Tally()
    for number in [one for one in choose_trials(whole, task, kind, words) for _ in range(words.times)]:
        chance = random.Random(f"{words.seed}/{task}/{kind}/{number}")
        folder, err = place / f"{task}-{kind}-{number}", whole.home / f"{kind}-{number}.err"
        err.unlink(missing_ok=True)
        folder.mkdir()
        why = kinds.run_trial(Trial(whole, number, folder, err, chance), FAULT_KINDS[kind])
        tally.total += 1
        tally.passed += not why
        if why:
            print(
                f"{task} {kind} {number} did not hold: {why}\n  repeat it: {format_repeat_command(task, kind, number, words.seed)}"
            )
            said = err.read_text("utf-8", "replace") if err.exists() else ""
            print("\n".join(["  stderr of its runs:", *(f"    {line}" for line in said.splitlines())]), flush=True)
    return tally


def format_repeat_command(task: str, kind: str, number: int, seed: int) -> str:
    """The command that repeats a trial; a moment in CPU seconds is met again within some milliseconds only."""
    often = " --times 20" if kind == "kill" else ""
    return f"{sys.executable} -m tests.faults --seed {seed} --task {task} --kind {kind} --number {number}{often}"


def main() -> int:
    words = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the small disk is unmounted on the way out
    print(f"seed {words.seed}", flush=True)
    made: dict[tuple[str, str], Tally] = {}
    with TemporaryDirectory(prefix="llmkit-faults-") as name, small_disk(Path(name) / "disk") as why_not:
        work = Path(name)
        (work / "trials").mkdir()
        for task in words.task or TASKS:
            whole = make_reference_run(task, work)
            for kind in words.kind or FAULT_KINDS:
                place = work / ("disk" if kind == "full" else "trials")
                no_disk = kind == "full" and why_not
                made[task, kind] = Tally(not_run=why_not) if no_disk else run_trials(task, kind, whole, place, words)
                print(format_tally(task, kind, made[task, kind]), flush=True)
    held, of = sum(one.passed for one in made.values()), sum(one.total for one in made.values())
    for task, kind in made:
        print(format_tally(task, kind, made[task, kind]))
    missing = sum(bool(one.not_run) for one in made.values())
    print(f"{held} of {of} held" + (f"; {missing} kinds of trial were NOT RUN" if missing else ""))
    return 0 if held == of else 1


def format_tally(task: str, kind: str, one: Tally) -> str:
    return f"{task:<10} {kind:<7} " + (
        f"NOT RUN: {one.not_run}" if one.not_run else f"{one.passed} of {one.total} held"
    )


if __name__ == "__main__":
    sys.exit(main())
