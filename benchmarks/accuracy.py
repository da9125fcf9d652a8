"""Compares the accuracy over seeds of llmkit and a stock dynamic-padding script: python benchmarks/accuracy.py FOLDER.

FOLDER holds train, validation and test .jsonl with `text` and `label`. MiniLM, 2 epochs, rate 1e-4, 32 examples a step,
warm-up and decay as llmkit's defaults on all sides; the epoch with the best validation accuracy is scored on test. The
stock script pads to the longest of a batch, in float32; llmkit runs as shipped, with train.fast_path=off, and in
float32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

import llmkit
from llmkit.data.readers.read import read_rows
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

EPOCHS, RATE, ROWS, LENGTH = 2, 1e-4, 32, 128


def train_llmkit(folder: Path, seed: int, out: str, *more: str) -> float:
    """Train with llmkit and return the test accuracy."""
    keys = [f"train.learning_rate={RATE}", f"train.seed={seed}", "eval.baselines=[]", *more]
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    run = llmkit.train(
        None, *keys, task="classify", model=PACKAGED_MODEL, epochs=EPOCHS, output_dir=f"{out}/ours", **files
    )
    assert run.report is not None
    return run.report.metrics["accuracy"].value


def train_without_fast_path(folder: Path, seed: int, out: str) -> float:
    """Train with padded batches and return the test accuracy."""
    return train_llmkit(folder, seed, out, "train.fast_path=off")


def train_fp32(folder: Path, seed: int, out: str) -> float:
    """Train in float32, like the stock script, and return the test accuracy."""
    return train_llmkit(folder, seed, out, "train.precision=fp32")


def train_stock(folder: Path, seed: int, out: str) -> float:
    """Train with the stock script that people copy and return the test accuracy."""
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(PACKAGED_MODEL).id)
    tokenizer.backend_tokenizer.no_padding()  # the tokenizer file of this model always pads to 128
    rows = {split: read_rows(str(folder / f"{split}.jsonl")) for split in ("train", "validation", "test")}
    labels = sorted(set(rows["train"].texts("label")))

    def encoded(split: str) -> list[dict[str, Any]]:
        inputs = tokenizer(rows[split].texts("text"), truncation=True, max_length=LENGTH)["input_ids"]
        return [{"input_ids": i, "labels": labels.index(label)}
                for i, label in zip(inputs, rows[split].texts("label"), strict=True)]  # fmt: skip

    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_model(PACKAGED_MODEL).id, dtype=torch.float32, num_labels=len(labels)
    )
    arguments = TrainingArguments(
        f"{out}/stock", per_device_train_batch_size=ROWS, num_train_epochs=EPOCHS, learning_rate=RATE, warmup_steps=0.1,
        weight_decay=0.01, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, use_cpu=True,
        metric_for_best_model="accuracy", save_only_model=True, seed=seed, report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=encoded("train"), eval_dataset=encoded("validation"),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda out: {"accuracy": float((np.argmax(out.predictions, 1) == out.label_ids).mean())},
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return float(trainer.evaluate(encoded("test"))["eval_accuracy"])


def main() -> None:
    """Print one row per side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    args = parser.parse_args()
    sides: dict[str, Callable[[Path, int, str], float]] = {
        "llmkit": train_llmkit,
        "llmkit, train.fast_path=off": train_without_fast_path,
        "llmkit, train.precision=fp32": train_fp32,
        "stock, dynamic padding, fp32": train_stock,
    }
    results: dict[str, list[float]] = {side: [] for side in sides}
    for seed in args.seeds:
        for side, train in sides.items():
            with TemporaryDirectory() as out:
                results[side].append(train(args.folder, seed, out))
            print(f"seed {seed}, {side}: {results[side][-1]:.4f}", file=sys.stderr, flush=True)
    seeds = " | ".join(f"seed {seed}" for seed in args.seeds)
    print(f"| side | {seeds} | mean |\n|---|{'---|' * (len(args.seeds) + 1)}")
    for side, values in results.items():
        print(f"| {side} | {' | '.join(f'{v:.3f}' for v in values)} | {statistics.mean(values):.3f} |")
    if len(args.seeds) > 1:
        theirs = results.pop("stock, dynamic padding, fp32")
        for side, values in results.items():
            gap = statistics.mean(values) - statistics.mean(theirs)
            noise = (statistics.variance(values) / len(values) + statistics.variance(theirs) / len(theirs)) ** 0.5
            print(f"\n{side}: {gap:+.4f} against stock, standard error over the seeds {noise:.4f}")


if __name__ == "__main__":
    main()
