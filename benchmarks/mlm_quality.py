"""Masked-LM loss at equal tokens, llmkit against run_mlm: python benchmarks/mlm_quality.py FOLDER [--start minilm].

FOLDER holds train.txt and validation.txt, one document per line. 32 rows of 128 tokens per step; learning rate, warm-up
(0.1), linear decay, AdamW with weight decay 0.01 and clipping at 1 are equal on all sides. The stock script
concatenates lines and splits them into chunks (stock_mlm.py), in float32; llmkit runs with its defaults. llmkit does
not split a document that fits, so its rows hold fewer tokens, and it needs more steps for the same number of tokens.

--start fresh: a BERT with 4 layers of width 256 is trained from scratch, with a tokenizer of 8,000 tokens of train.txt.
--start minilm: MiniLM is trained further. Its files have no masked-LM head, so there is no loss before training; each
side is trained twice, on a tenth of the tokens and on all of them, each with its own schedule. A third side trains the
script's newly initialized head on a frozen encoder: the difference is the contribution of the encoder.

All saved folders are scored by llmkit.evaluate on validation.txt: with each line alone, as llmkit trains, and with
lines joined up to 128 tokens, which is closer to the script's training data.
Nothing is timed: on a shared machine set GOMP_SPINCOUNT=5000, as llmkit's command line does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import stock_mlm
import torch
import transformers

import llmkit
from llmkit import tasks
from llmkit.data.prepare import read_splits
from llmkit.models.load import load_tokenizer
from llmkit.models.scratch.from_config import build_preset_config
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model
from llmkit.recipe.load import load_recipe

LENGTH, ROWS = 128, 32
PIECES = 8000
RATES = {"fresh": 5e-4, "minilm": 1e-4}
NO_SPLIT = ("data.split.validation=0", "data.split.test=0")


class Training(NamedTuple):
    """The settings of one training."""

    folder: Path  # of the texts
    start: str  # fresh (from scratch) or minilm
    tokenizer: str
    tokens: int
    rate: float
    seed: int
    out: Path


def recipe_keys(training: Training) -> list[str]:
    """Return the recipe keys that differ from llmkit's defaults, without the number of steps."""
    scratch = ["model.from_config=bert-mini", f"model.tokenizer={training.tokenizer}"]
    model = scratch if training.start == "fresh" else [f"model.name={PACKAGED_MODEL}"]
    return [*NO_SPLIT, *model, f"model.max_length={LENGTH}", f"train.learning_rate={training.rate}",
            f"train.seed={training.seed}", f"train.batch_size={ROWS}",
            "train.logging_steps=100"]  # fmt: skip


def train_llmkit(training: Training) -> tuple[Path, int]:
    """Train with llmkit; return the model folder and the number of training tokens."""
    recipe = load_recipe(None, recipe_keys(training), task="mlm", train=str(training.folder / "train.txt"))
    task = tasks.load_task("mlm")(recipe.options)
    tokenizer = load_tokenizer(resolve_model(training.tokenizer, kind="tokenizer"))
    rows = task.encode_train(read_splits(recipe.data, task).train, tokenizer, LENGTH)
    tokens_per_step = float(rows.features.lengths().mean()) * ROWS
    steps = max(1, round(training.tokens / tokens_per_step))
    keys = [*recipe_keys(training), f"train.max_steps={steps}"]
    run = llmkit.train(
        None, *keys, task="mlm", train=str(training.folder / "train.txt"), output_dir=str(training.out / "ours")
    )
    return run.path / "model", round(steps * tokens_per_step)


def train_stock(training: Training, frozen: bool = False) -> tuple[Path, int]:
    """Train with the script; return the model folder and the number of training tokens."""
    transformers.set_seed(training.seed)
    tokenizer = stock_mlm.load_stock_tokenizer(resolve_model(training.tokenizer, kind="tokenizer").id)
    rows = stock_mlm.make_chunks(
        stock_mlm.load_lines(str(training.folder / "train.txt"), training.out.parent), tokenizer, LENGTH
    )
    if training.start == "fresh":
        model = transformers.AutoModelForMaskedLM.from_config(build_preset_config("bert-mini", tokenizer, LENGTH, {}))
    else:
        model = stock_mlm.load_stock_model(resolve_model(training.tokenizer).id)
    if frozen:
        model.base_model.requires_grad_(False)
    steps = max(1, round(training.tokens / (ROWS * LENGTH)))
    trainer = stock_mlm.build_stock_trainer(
        model, tokenizer, rows, str(training.out / "stock"), per_device_train_batch_size=ROWS, max_steps=steps,
        learning_rate=training.rate, warmup_steps=0.1, weight_decay=0.01, seed=training.seed,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(training.out / "model"))
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(str(training.out / "model"))
    return training.out / "model", steps * ROWS * LENGTH


def train_head_only(training: Training) -> tuple[Path, int]:
    """Train the script's head on a frozen encoder; its output layer is tied to the embedding, so it is frozen too."""
    return train_stock(training, frozen=True)


def join_lines(file: Path, folder: str, out: Path) -> Path:
    """Write the lines of `file`, joined up to 128 tokens, to `out`."""
    tokenizer = load_tokenizer(resolve_model(folder, kind="tokenizer"))
    joined, current, size = [], [], 0
    for line in file.read_text(encoding="utf-8").splitlines():
        tokens = len(tokenizer(line, add_special_tokens=False)["input_ids"])
        if current and size + tokens > LENGTH - tokenizer.num_special_tokens_to_add():
            joined.append(" ".join(current))
            current, size = [], 0
        current.append(line)
        size += tokens
    out.write_text("\n".join([*joined, " ".join(current)]) + "\n", encoding="utf-8")
    return out


def evaluate_loss(model: Path, file: Path) -> tuple[float, float]:
    """Return the mean loss of the masked tokens, and that of the unigram baseline."""
    report = llmkit.evaluate(str(model), data=str(file), metrics=["loss"])
    baseline = next(iter(report["baselines"].values()))
    return report["metrics"]["loss"]["value"], baseline["loss"]["value"]


Sides = dict[str, Callable[[Training], tuple[Path, int]]]
Losses = dict[tuple[str, float, str], list[float]]  # by side, fraction of the tokens, and reading of the texts


def print_tables(sides: Sides, losses: Losses, seeds: list[int], floors: dict[str, float]) -> None:
    """Print one table per reading, with each side's difference from the stock script at equal tokens."""
    for reading, floor in floors.items():
        print(f"\n**{reading}**; unigram baseline: {floor:.3f}\n")
        print("| side | tokens | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean loss | against stock |")
        print(f"|---|---|{'---|' * (len(seeds) + 2)}")
        for (side, fraction, line_reading), side_losses in losses.items():
            if line_reading != reading:
                continue
            stock_losses = losses["stock script", fraction, line_reading]
            gaps = [loss - stock_loss for loss, stock_loss in zip(side_losses, stock_losses, strict=True)]
            gap = f"{statistics.mean(gaps):+.3f}{format_error(side_losses, stock_losses)}"
            gap = "-" if side == "stock script" else gap
            values = " | ".join(f"{loss:.3f}" for loss in side_losses)
            print(f"| {side} | {fraction:.0%} | {values} | {statistics.mean(side_losses):.3f} | {gap} |")
        if len({fraction for _, fraction, _ in losses}) > 1:
            changes = [f"{side} {statistics.mean(losses[side, 0.1, reading]):.3f} to "
                     f"{statistics.mean(losses[side, 1.0, reading]):.3f}" for side in sides]  # fmt: skip
            print(f"\nFrom a tenth of the tokens to all: {'; '.join(changes)}.")


def format_error(side_losses: list[float], stock_losses: list[float]) -> str:
    """Format ` ± E`, the standard error of the difference of two means over seeds; empty for one seed."""
    if len(side_losses) < 2:
        return ""
    variance = sum(statistics.variance(losses) / len(losses) for losses in (side_losses, stock_losses))
    return f" ± {variance**0.5:.3f}"


def get_tokenizer(start: str, folder: Path, work: Path) -> str:
    """Return MiniLM's tokenizer, or train one of 8,000 tokens."""
    if start == "minilm":
        return PACKAGED_MODEL
    llmkit.train_tokenizer(str(folder / "train.txt"), output_dir=work / "tokenizer", vocab_size=PIECES)
    return str(work / "tokenizer")


def main() -> None:
    """Train every side with every seed, then print one table per reading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with train.txt and validation.txt")
    parser.add_argument("--start", choices=RATES, default="fresh")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="tokens of each training (default 2,000,000)")
    parser.add_argument("--rate", type=float, help="learning rate (default 5e-4 fresh, 1e-4 minilm)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--lines", type=int, help="only the first lines of validation.txt (default all)")
    args = parser.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    sides: Sides = {"stock script": train_stock, "llmkit": train_llmkit}
    fractions = [1.0]
    if args.start == "minilm":
        sides, fractions = (
            {"stock script": train_stock, "stock script, head alone": train_head_only, "llmkit": train_llmkit},
            [0.1, 1.0],
        )
    rate = args.rate or RATES[args.start]
    losses: Losses = {}
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        tokenizer = get_tokenizer(args.start, args.folder, work)
        texts = (args.folder / "validation.txt").read_text(encoding="utf-8").splitlines()[: args.lines]
        (work / "lines.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        files = {"each line alone": work / "lines.txt"}
        files["lines joined"] = join_lines(files["each line alone"], tokenizer, work / "joined.txt")
        floors: dict[str, float] = {}
        for seed in args.seeds:
            for fraction in fractions:
                for side, train in sides.items():
                    tokens = int(args.tokens * fraction)
                    out = work / f"{seed}-{fraction}-{side.replace(', ', '-').replace(' ', '-')}"
                    out.mkdir()
                    start = time.process_time()
                    model, token_count = train(Training(args.folder, args.start, tokenizer, tokens, rate, seed, out))
                    seconds = time.process_time() - start
                    for reading, file in files.items():
                        loss, floors[reading] = evaluate_loss(model, file)
                        losses.setdefault((side, fraction, reading), []).append(loss)
                        label = f"seed {seed}, {side}, {token_count:,} tokens in {seconds:.0f} CPU s, {reading}"
                        print(f"{label}: {loss:.4f}", file=sys.stderr, flush=True)
    print_tables(sides, losses, args.seeds, floors)


if __name__ == "__main__":
    main()
