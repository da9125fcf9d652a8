"""Compares CPU time of training with llmkit and three stock Trainer scripts: python benchmarks/training.py SST2.jsonl.

MiniLM, 32 examples per step, max_length 128, 2 threads. The sides take turns, each in its own process, so that no side
gets the warm caches of another. Only `train()` is timed: no reading, no evaluation, no saving. The stock scripts are
typical: padding to 128 in float32 (the default of run_glue), dynamic padding in float32, and the best that stock flags
give (group_by_length, bf16, dynamic padding). llmkit's sides start like the command line.
With --profile: the distribution of llmkit's time, and its share of this machine's own matrix-product peak.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from llmkit import tasks
from llmkit.data.prepare import read_splits
from llmkit.models.load import LoadedModel, load_model
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model
from llmkit.recipe.load import load_recipe
from llmkit.runs.folder import RunFolder
from llmkit.training.fit import build_trainer
from llmkit.training.setup import features
from llmkit.training.setup import model as starting

ROWS = 32
LENGTH = 128
# Maximum rows per round: as few for the slow sides as a stable mean allows.
SIDES = {
    "stock: padded to 128, fp32": 640,
    "stock: dynamic padding, fp32": 1280,
    "stock: group_by_length, bf16": 7000,
    "llmkit, fp32": 3200,
    "llmkit, as shipped (bf16)": 7000,
    "llmkit, bf16, train.fast_path=off": 3200,
}


def build_stock_trainer(loaded: LoadedModel, features: Sequence[dict[str, Any]], folder: str, side: str) -> Trainer:
    """Build a Trainer as a copied script does."""
    flags: dict[str, Any] = {}
    collator = DataCollatorWithPadding(loaded.tokenizer)
    if "128" in side:
        collator = DataCollatorWithPadding(loaded.tokenizer, padding="max_length", max_length=LENGTH)
    if "group_by_length" in side:
        flags = {"train_sampling_strategy": "group_by_length", "bf16": True}
    arguments = TrainingArguments(folder, per_device_train_batch_size=ROWS, num_train_epochs=1, save_strategy="no",
                                  use_cpu=True, disable_tqdm=True, learning_rate=1e-4, report_to="none",
                                  remove_unused_columns="group" not in side, **flags)  # fmt: skip
    rows = [one | {"length": len(one["input_ids"])} for one in features] if flags else list(features)
    collate = drop_length(collator) if flags else collator
    trainer = Trainer(loaded.model, arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    return trainer


def drop_length(collator: Any) -> Callable[[Any], Any]:
    """Wrap the collator to drop the column that only the sampler reads."""
    return lambda rows: collator([{k: v for k, v in row.items() if k != "length"} for row in rows])


def build_llmkit_trainer(file: str, rows: Sequence[int], folder: str, side: str) -> Any:
    """Build llmkit's trainer on these rows as a run does."""
    keys = ["data.split.validation=0", "data.split.test=0", "train.num_train_epochs=1", "train.learning_rate=1e-4",
            f"train.precision={'fp32' if 'fp32' in side else 'bf16'}",
            f"train.fast_path={'off' if 'off' in side else 'auto'}"]  # fmt: skip
    recipe = load_recipe(None, keys, task="classify", train=file, model=PACKAGED_MODEL)
    task = tasks.load_task("classify")(recipe.options)
    splits = read_splits(recipe.data, task)
    task.fit(splits.train, {})
    splits = replace(splits, train=splits.train.take(rows))
    recipe, loaded = starting.load_run_model(recipe, task, resolve_model(PACKAGED_MODEL), splits.train)
    encoded = features.encode_splits(recipe, task, loaded, splits)
    return build_trainer(recipe, task, loaded, splits, encoded, RunFolder(Path(folder)))


def measure_cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak(dtype: torch.dtype) -> float:
    """Return GFLOP per CPU second of the best of ten large matrix products."""
    left, right = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    best = min(measure_cpu_seconds(lambda: left @ right) for _ in range(10))
    return 2 * 2048**3 / best / 1e9


def show_profile(new: Callable[[], Any], precision: torch.dtype) -> None:
    """Print the time by type of operation, and the share of the peak. Each training has its own trainer."""
    new().train()  # builds the kernels
    trainer = new()
    seconds = measure_cpu_seconds(trainer.train)
    trainer = new()
    with FlopCounterMode(display=False) as flops:
        trainer.train()
    trainer = new()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer.train()
    kinds = {
        "matrix products": ("mm", "linear"),
        "optimizer": ("adamw", "Optimizer"),
        "casts and copies": ("copy",),
        "activation, softmax, layer norm": ("gelu", "softmax", "layer_norm"),
        "dropout masks": ("bernoulli", "random"),
        "zeros": ("fill_", "zero"),
        "gradient norm and clipping": ("norm", "foreach"),
        "gather and scatter": ("index", "scatter"),
    }
    spent = dict.fromkeys([*kinds, "all else"], 0.0)
    for event in seen.key_averages():
        kind = next((k for k, names in kinds.items() if any(name in event.key for name in names)), "all else")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    print("\n| kind of work | share of the time |\n|---|---|")
    for kind, share in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {share / total:.0%} |")
    best = peak(precision)
    reached = flops.get_total_flops() / seconds / 1e9
    products = flops.get_total_flops() / seconds / (spent["matrix products"] / total) / 1e9
    print(f"\n{reached:.0f} GFLOP a CPU second of {best:.0f} that a 2048 x 2048 product reaches: {reached / best:.0%};")
    print(f"within the matrix products alone {products:.0f}: {products / best:.0%}")


def measure_side(file: str, side: str) -> float:
    """Return CPU ms per example of one side, in this process."""
    torch.set_num_threads(2)
    with TemporaryDirectory() as folder:
        recipe = load_recipe(None, ["data.split.validation=0", "data.split.test=0"], task="classify", train=file)
        task = tasks.load_task("classify")(recipe.options)
        rows = read_splits(recipe.data, task).train
        some = range(min(SIDES[side], len(rows)))
        if side.startswith("llmkit"):
            trainer = build_llmkit_trainer(file, some, folder, side)
        else:
            task.fit(rows, {})
            head = task.head()
            loaded = load_model(resolve_model(PACKAGED_MODEL), head.auto_class, head.config)
            trainer = build_stock_trainer(
                loaded, task.encode(rows.take(some), loaded.tokenizer, LENGTH).features, folder, side
            )
        return 1000 * measure_cpu_seconds(trainer.train) / len(some)


def measure_in_subprocess(file: str, side: str) -> float:
    """Return CPU ms per example of one side, in its own process with its users' environment."""
    environment = dict(os.environ)
    if side.startswith("llmkit"):
        environment.setdefault("GOMP_SPINCOUNT", "5000")  # as llmkit/cli does
    command = [sys.executable, __file__, file, "--side", side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print one row per side, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--side", choices=SIDES, help="only this side, in this process")
    args = parser.parse_args()
    if args.side:
        print(measure_side(args.file, args.side))
        return
    if args.profile:
        with TemporaryDirectory() as folder:
            show_profile(lambda: build_llmkit_trainer(args.file, range(1600), folder, "bf16"), torch.bfloat16)
        return
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(args.rounds):
        for side, times in spent.items():
            times.append(measure_in_subprocess(args.file, side))
            print(f"{turn + 1} {side}: {times[-1]:.2f}", file=sys.stderr, flush=True)
    cost = {side: statistics.median(times) for side, times in spent.items()}
    shipped = cost["llmkit, as shipped (bf16)"]
    print("| side | CPU ms an example, median | best, worst round | llmkit as shipped is faster by |")
    print("|---|---|---|---|")
    for side, times in spent.items():
        print(f"| {side} | {cost[side]:.1f} | {min(times):.1f}, {max(times):.1f} | {cost[side] / shipped:.2f}x |")


if __name__ == "__main__":
    main()
