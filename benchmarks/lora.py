"""LoRA against the full fine-tune on the same rows: python benchmarks/lora.py FOLDER [--rounds 1] [KEY=VALUE ...].

FOLDER has train, validation and test .jsonl files with text and label, such as SST-2. MiniLM, 2 epochs; each side at
its best learning rate (full 1e-4; LoRA 1e-3, its default). The sides alternate, each in its own process for the whole
run: reading, training, model selection on validation, saving, verification, scoring test. Memory is the peak resident
set size, CPU seconds are of the whole process, and the size is of the weight files in the run folder.
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
DEFAULT_SIDES = ["full", "LoRA", "LoRA on query and value"]


def measure_side(folder: Path, side: str, model: str, keys: list[str]) -> dict[str, Any]:
    """Run one side in this process; returns CPU seconds, peak memory and saved weights in bytes, and scores."""
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


def measure_in_subprocess(folder: Path, side: str, model: str, keys: list[str]) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--side", side, "--model", model, *keys]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stderr)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print one row per side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("keys", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default=PACKAGED_MODEL)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=DEFAULT_SIDES)
    parser.add_argument("--side", choices=SIDES, help="only this side, in this process")
    options = parser.parse_intermixed_args()
    if options.side:
        print(json.dumps(measure_side(options.folder, options.side, options.model, options.keys)))
        return
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    for turn in range(options.rounds):
        for side, rounds in results.items():
            rounds.append(
                measure_in_subprocess(options.folder, side, options.model, [*options.keys, f"train.seed={42 + turn}"])
            )
            print(f"{turn + 1} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
    print("| side | test accuracy (95 % interval) | CPU seconds | peak memory | saved weights |\n|---|---|---|---|---|")
    for side, rounds in results.items():
        medians = {key: statistics.median(one[key] for one in rounds) for key in ("cpu", "memory", "size")}
        scores = ", ".join(
            f"{one['accuracy']['value']:.4f} [{one['accuracy']['low']:.3f}, {one['accuracy']['high']:.3f}]"
            for one in rounds
        )
        print(f"| {side} | {scores} | {medians['cpu']:.0f} | {medians['memory'] / 2**30:.2f} GiB "
              f"| {medians['size'] / 2**20:.1f} MiB |")  # fmt: skip


if __name__ == "__main__":
    main()
