"""What --dry-run expects against what the run takes: python benchmarks/plan.py FOLDER [FOLDER ...].

Each FOLDER holds train, validation and test .jsonl with `text` and `label`; MiniLM, 2 epochs. Plan and run are commands
of their own, one after the other, so that neither is warm. Wall time, because that is what a user waits for: run it on
a quiet machine.
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


def run_command(words: list[str]) -> tuple[dict[str, Any], float, int]:
    """What a command printed as JSON, its seconds, and the most bytes of memory it held."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "llmkit", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return json.loads(said), time.perf_counter() - began, used.ru_maxrss * 1024


def main() -> None:
    """Print one row a folder."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path, nargs="+")
    words.add_argument("--keys", nargs="*", default=[], help="KEY=VALUE for all of them")
    given = words.parse_args()
    print("| data | expected | took | error | memory expected | took | the rehearsal itself |")
    print("|---|---|---|---|---|---|---|")
    for folder in given.folder:
        files = [
            word for split in ("train", "validation", "test") for word in (f"--{split}", f"{folder}/{split}.jsonl")
        ]
        base = ["finetune-classify", *given.keys, *files, "--model", PACKAGED_MODEL, "--epochs", "2", "--json"]
        with TemporaryDirectory() as out:
            plan, rehearsal, _ = run_command([*base, "--dry-run"])
            _, took, memory = run_command([*base, "-o", f"{out}/run"])
        expected, most = plan["total_seconds"], plan["memory"]
        cells = [folder.name, f"{expected:.0f} s", f"{took:.0f} s", f"{expected / took - 1:+.0%}",
                 f"{most / 2**30:.2f} GiB", f"{memory / 2**30:.2f} GiB", f"{rehearsal:.0f} s"]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
