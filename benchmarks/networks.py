"""RNN and CNN classifiers against baselines and a transformer on the same rows: python benchmarks/networks.py FOLDER.

FOLDER has train, validation and test .jsonl files with `text` and `label`. One llmkit run with defaults for each
network and seed, with the run's own baselines, and with --model also a pretrained encoder at its learning rate and
epochs. CPU seconds are of the whole run: reading, training, scoring, saving and verification.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llmkit
from llmkit.models.scratch.sizes import NETWORK_NAMES


def run_training(folder: Path, model: str, *keys: str) -> tuple[Any, float]:
    """Train once; returns the report and the CPU seconds."""
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    with TemporaryDirectory() as out:
        start = time.process_time()
        run = llmkit.train(None, *keys, task="classify", model=model, output_dir=f"{out}/run", **files)
        return run.report, time.process_time() - start


def format_row(name: str, scores: list[float], seconds: float | None) -> str:
    """Format a line of the table."""
    seconds_taken = "" if seconds is None else f"{seconds:.0f}"
    return f"| {name} | {statistics.mean(scores):.3f} | {min(scores):.3f} to {max(scores):.3f} | {seconds_taken} |"


def main() -> None:
    """Print one row per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=list(NETWORK_NAMES), choices=NETWORK_NAMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--model", help="a pretrained encoder to compare them with, 2 epochs at rate 1e-4")
    parser.add_argument("keys", nargs="*", default=[], metavar="KEY=VALUE", help="of the networks' recipes")
    options = parser.parse_intermixed_args()
    sides = dict.fromkeys(options.networks, options.keys)
    if options.model:
        sides[options.model] = ["train.learning_rate=1e-4", "train.num_train_epochs=2"]
    lines: list[str] = []
    baselines: dict[str, Any] = {}
    for side, keys in sides.items():
        scores, seconds = [], []
        for seed in options.seeds:
            report, seconds_taken = run_training(options.folder, side, f"train.seed={seed}", *keys)
            scores.append(report.metrics["accuracy"].value)
            seconds.append(seconds_taken)
            baselines = report.baselines
            print(
                f"{side}, seed {seed}: {scores[-1]:.4f}, {seconds_taken:.0f} CPU seconds", file=sys.stderr, flush=True
            )
        lines.append(format_row(side, scores, statistics.mean(seconds)))
    lines += [format_row(name, [scores["accuracy"].value], None) for name, scores in baselines.items()]
    print("| model | accuracy | over the seeds | CPU seconds |\n|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
