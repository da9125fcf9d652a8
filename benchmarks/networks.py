"""What a transformer buys: each network that came before it, on the same rows: python benchmarks/networks.py FOLDER.

FOLDER holds train, validation and test .jsonl with `text` and `label`. One llmkit run as shipped for each network and
seed; beside them the run's own baselines, and with --model a pretrained encoder at its rate and epochs. CPU seconds are
of the whole run: reading, training, scoring, saving and the proof.
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


def ran(folder: Path, model: str, *keys: str) -> tuple[Any, float]:
    """The report of one run, and its CPU seconds."""
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    with TemporaryDirectory() as out:
        began = time.process_time()
        run = llmkit.train(None, *keys, task="classify", model=model, output_dir=f"{out}/run", **files)
        return run.report, time.process_time() - began


def row(name: str, scores: list[float], seconds: float | None) -> str:
    """A line of the table."""
    took = "" if seconds is None else f"{seconds:.0f}"
    return f"| {name} | {statistics.mean(scores):.3f} | {min(scores):.3f} to {max(scores):.3f} | {took} |"


def main() -> None:
    """Print one row a network."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--networks", nargs="+", default=list(NETWORK_NAMES), choices=NETWORK_NAMES)
    words.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    words.add_argument("--model", help="a pretrained encoder to hold them against, 2 epochs at rate 1e-4")
    words.add_argument("keys", nargs="*", default=[], metavar="KEY=VALUE", help="of the networks' recipes")
    given = words.parse_intermixed_args()
    sides = dict.fromkeys(given.networks, given.keys)
    if given.model:
        sides[given.model] = ["train.learning_rate=1e-4", "train.num_train_epochs=2"]
    lines: list[str] = []
    held: dict[str, Any] = {}
    for side, keys in sides.items():
        scores, seconds = [], []
        for seed in given.seeds:
            report, took = ran(given.folder, side, f"train.seed={seed}", *keys)
            scores.append(report.metrics["accuracy"].value)
            seconds.append(took)
            held = report.baselines
            print(f"{side}, seed {seed}: {scores[-1]:.4f}, {took:.0f} CPU seconds", file=sys.stderr, flush=True)
        lines.append(row(side, scores, statistics.mean(seconds)))
    lines += [row(name, [scores["accuracy"].value], None) for name, scores in held.items()]
    print("| model | accuracy | over the seeds | CPU seconds |\n|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
