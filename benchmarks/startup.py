"""Compares CPU seconds of `llmkit --help` and `python -c "import typer"`, in turns: python benchmarks/startup.py."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

ROUNDS = 15
SIDES = {
    "import typer": [sys.executable, "-c", "import typer"],
    "llmkit --help": [sys.executable, "-m", "llmkit", "--help"],
    "a mistyped key": [sys.executable, "-m", "llmkit", "finetune-classify", "--train", "x.csv", "train.lerning_rate=1"],
}


def cpu_seconds(command: list[str]) -> float:
    """Return user and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of each side and the ratio to `import typer`."""
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(ROUNDS):
        for name, command in SIDES.items():
            taken[name].append(cpu_seconds(command))
    least = statistics.median(taken["import typer"])
    print("| command | median CPU s | ratio |\n|---|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {statistics.median(seconds):.3f} | {statistics.median(seconds) / least:.2f} |")


if __name__ == "__main__":
    main()
