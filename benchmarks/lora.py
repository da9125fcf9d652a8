"""LoRA against the full fine-tune on the same rows: python benchmarks/lora.py FOLDER [--rounds 1] [KEY=VALUE ...].

FOLDER holds train, validation and test .jsonl with text and label, such as SST-2. MiniLM, 2 epochs; each side at its
own best rate of a few (full 1e-4; LoRA 1e-3, its default). The sides take turns, each in a process of its own that
does the whole run: reading, training, choosing by validation, saving, proving, scoring test. Memory is the peak of
resident pages, CPU seconds are of the whole process; a model's size is what its run folder keeps of weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llmkit
from llmkit.models.sources.model_ref import PACKAGED_MODEL

SIDES = {
    "full": ["train.learning_rate=1e-4"],
    "LoRA": ["lora=true"],
    "LoRA on query and value": ["lora.target_modules=[query,value]"],
    "DoRA": ["lora.use_dora=true"],
    "LoRA, merged": ["lora.merge=true"],
}
DEFAULT = ["full", "LoRA", "LoRA on query and value"]


def one_side(folder: Path, side: str, model: str, keys: list[str]) -> dict[str, Any]:
    """CPU seconds, peak bytes, bytes of the saved weights and the scores of one side, in this process."""
    with TemporaryDirectory() as home:
        report = llmkit.train(
            None, "train.num_train_epochs=2", "eval.baselines=[]", *SIDES[side], *keys, task="classify", model=model,
            train=str(folder / "train.jsonl"), validation=str(folder / "validation.jsonl"),
            test=str(folder / "test.jsonl"), output_dir=f"{home}/run",
        ).report  # fmt: skip
        assert report is not None
        size = sum(path.stat().st_size for path in Path(home, "run", "model").glob("*.safetensors"))
        lines = [json.loads(line) for line in Path(home, "run", "log.jsonl").read_text().splitlines()]
    rate = next(line["train_tokens_per_second"] for line in lines if "train_tokens_per_second" in line)
    return {
        "cpu": time.process_time(),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts in KiB
        "size": size,
        "rate": rate,
        "accuracy": report.as_dict()["metrics"]["accuracy"],
    }


def in_turn(folder: Path, side: str, model: str, keys: list[str]) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--side", side, "--model", model, *keys]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print one row a side."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("keys", nargs="*", default=[])
    words.add_argument("--rounds", type=int, default=1)
    words.add_argument("--model", default=PACKAGED_MODEL)
    words.add_argument("--sides", nargs="+", choices=SIDES, default=DEFAULT)
    words.add_argument("--side", choices=SIDES, help="only this side, in this process")
    given = words.parse_intermixed_args()
    if given.side:
        print(json.dumps(one_side(given.folder, given.side, given.model, given.keys)))
        return
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in given.sides}
    for turn in range(given.rounds):
        for side, rounds in found.items():
            rounds.append(in_turn(given.folder, side, given.model, [*given.keys, f"train.seed={42 + turn}"]))
            print(f"{turn + 1} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
    print("| side | test accuracy (95 % interval) | CPU seconds | peak memory | saved weights |\n|---|---|---|---|---|")
    for side, rounds in found.items():
        middle = {key: statistics.median(one[key] for one in rounds) for key in ("cpu", "memory", "size")}
        scores = ", ".join(
            f"{one['accuracy']['value']:.4f} [{one['accuracy']['low']:.3f}, {one['accuracy']['high']:.3f}]"
            for one in rounds
        )
        print(f"| {side} | {scores} | {middle['cpu']:.0f} | {middle['memory'] / 2**30:.2f} GiB "
              f"| {middle['size'] / 2**20:.1f} MiB |")  # fmt: skip


if __name__ == "__main__":
    main()
