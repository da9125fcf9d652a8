"""Compares the estimate of --dry-run with the run itself: python benchmarks/dry_run.py FOLDER [FOLDER ...].

Each FOLDER holds train, validation and test .jsonl with `text` and `label`; MiniLM, 2 epochs. Dry run and run are
separate commands, one after the other, so that neither is warm. Wall time is measured, because a user waits for it:
run the benchmark on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmkit.models.sources.model_ref import PACKAGED_MODEL


def run_command(args: list[str]) -> tuple[dict[str, Any], float, int]:
    """Run a command; return its JSON output, its seconds, and its peak memory in bytes."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "llmkit", *args], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return json.loads(output), time.perf_counter() - start, used.ru_maxrss * 1024


def main() -> None:
    """Print one row per folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--keys", nargs="*", default=[], help="KEY=VALUE for all of them")
    args = parser.parse_args()
    print("| data | expected | took | error | memory expected | took | the dry run itself |")
    print("|---|---|---|---|---|---|---|")
    for folder in args.folder:
        files = [
            word for split in ("train", "validation", "test") for word in (f"--{split}", f"{folder}/{split}.jsonl")
        ]
        base = ["finetune-classify", *args.keys, *files, "--model", PACKAGED_MODEL, "--epochs", "2", "--json"]
        with TemporaryDirectory() as out:
            plan, dry_run_seconds, _ = run_command([*base, "--dry-run"])
            _, took, memory = run_command([*base, "-o", f"{out}/run"])
        expected, most = plan["total_seconds"], plan["memory"]
        cells = [folder.name, f"{expected:.0f} s", f"{took:.0f} s", f"{expected / took - 1:+.0%}",
                 f"{most / 2**30:.2f} GiB", f"{memory / 2**30:.2f} GiB", f"{dry_run_seconds:.0f} s"]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
