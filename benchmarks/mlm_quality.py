"""Masked loss at equal tokens, llmkit against run_mlm: python benchmarks/mlm_quality.py FOLDER [--start minilm].

FOLDER holds train.txt and validation.txt, a document a line. 32 rows of 128 tokens a step; rate, warm-up (0.1), linear
decay, AdamW with decay 0.01 and clipping at 1 are the same on all sides. The stock script joins lines end to end and
cuts them into chunks (stock_mlm.py), in float32; llmkit runs as shipped. As a document is not cut where it fits, a row
of llmkit holds fewer tokens, and it takes more steps for the same number of tokens.

--start fresh: a BERT of 4 layers of width 256 learns from nothing, with a tokenizer of 8,000 pieces of train.txt.
--start minilm: MiniLM goes on. Its files hold no masked-LM head, so there is no loss before; each side is trained
twice, for a tenth of the tokens and for all of them, each with a schedule of its own. A third side trains the script's
fresh head over a frozen encoder: what that falls short of is the encoder's part.

All saved folders are judged by llmkit.evaluate on validation.txt: with each line read alone, as llmkit trains, and with
lines joined to pieces of up to 128 tokens, which is nearer to what the script trains on.
Nothing is timed: on a machine that others use too set GOMP_SPINCOUNT=5000, as llmkit's command line does.
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


class Plan(NamedTuple):
    """One training."""

    folder: Path  # of the texts
    start: str  # fresh or minilm
    tokenizer: str
    tokens: int
    rate: float
    seed: int
    out: Path


def recipe_keys(plan: Plan) -> list[str]:
    """What llmkit's recipe says beside its defaults, but for the number of steps."""
    fresh = ["model.from_config=bert-mini", f"model.tokenizer={plan.tokenizer}"]
    return [*NO_SPLIT, *(fresh if plan.start == "fresh" else [f"model.name={PACKAGED_MODEL}"]), f"model.max_length={LENGTH}",
            f"train.learning_rate={plan.rate}", f"train.seed={plan.seed}", f"train.per_device_train_batch_size={ROWS}",
            "train.logging_steps=100"]  # fmt: skip


def ours(plan: Plan) -> tuple[Path, int]:
    """The folder of llmkit's model, and the tokens that it has seen."""
    recipe = load_recipe(None, recipe_keys(plan), task="mlm", train=str(plan.folder / "train.txt"))
    task = tasks.load_task("mlm")(recipe.options)
    tokenizer = load_tokenizer(resolve_model(plan.tokenizer, kind="tokenizer"))
    rows = task.encode_train(read_splits(recipe.data, task).train, tokenizer, LENGTH)
    held = float(rows.features.lengths().mean()) * ROWS  # tokens a step
    steps = max(1, round(plan.tokens / held))
    keys = [*recipe_keys(plan), f"train.max_steps={steps}"]
    run = llmkit.train(None, *keys, task="mlm", train=str(plan.folder / "train.txt"), output_dir=str(plan.out / "ours"))
    return run.path / "model", round(steps * held)


def stock(plan: Plan, frozen: bool = False) -> tuple[Path, int]:
    """The folder of the script's model, and the tokens that it has seen."""
    transformers.set_seed(plan.seed)
    tokenizer = stock_mlm.tokenizer_of(resolve_model(plan.tokenizer, kind="tokenizer").id)
    rows = stock_mlm.chunks(stock_mlm.lines(str(plan.folder / "train.txt"), plan.out.parent), tokenizer, LENGTH)
    if plan.start == "fresh":
        model = transformers.AutoModelForMaskedLM.from_config(build_preset_config("bert-mini", tokenizer, LENGTH, {}))
    else:
        model = stock_mlm.model_of(resolve_model(plan.tokenizer).id)
    if frozen:
        model.base_model.requires_grad_(False)
    steps = max(1, round(plan.tokens / (ROWS * LENGTH)))
    trainer = stock_mlm.trainer(model, tokenizer, rows, str(plan.out / "stock"), per_device_train_batch_size=ROWS,
                                max_steps=steps, learning_rate=plan.rate, warmup_steps=0.1, weight_decay=0.01,
                                seed=plan.seed)  # fmt: skip
    trainer.train()
    trainer.save_model(str(plan.out / "model"))
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(str(plan.out / "model"))
    return plan.out / "model", steps * ROWS * LENGTH


def head_alone(plan: Plan) -> tuple[Path, int]:
    """The script with a frozen encoder; the head's last layer is the encoder's embedding, so that is frozen too."""
    return stock(plan, frozen=True)


def joined(file: Path, folder: str, out: Path) -> Path:
    """A file of the lines of `file` joined to longer ones: as many as a row of 128 tokens holds."""
    tokenizer = load_tokenizer(resolve_model(folder, kind="tokenizer"))
    made, held, size = [], [], 0
    for line in file.read_text(encoding="utf-8").splitlines():
        tokens = len(tokenizer(line, add_special_tokens=False)["input_ids"])
        if held and size + tokens > LENGTH - tokenizer.num_special_tokens_to_add():
            made.append(" ".join(held))
            held, size = [], 0
        held.append(line)
        size += tokens
    out.write_text("\n".join([*made, " ".join(held)]) + "\n", encoding="utf-8")
    return out


def judged(model: Path, file: Path) -> tuple[float, float]:
    """The mean loss of the hidden tokens, and that of the shares of tokens without any context."""
    report = llmkit.evaluate(str(model), data=str(file), metrics=["loss"])
    shares = next(iter(report["baselines"].values()))
    return report["metrics"]["loss"]["value"], shares["loss"]["value"]


Sides = dict[str, Callable[[Plan], tuple[Path, int]]]
Found = dict[tuple[str, float, str], list[float]]  # by side, share of the tokens, and how the texts are read


def show(sides: Sides, found: Found, seeds: list[int], floors: dict[str, float]) -> None:
    """A table a way of reading; beside each side of equal tokens its difference from the stock script."""
    for reading, floor in floors.items():
        print(f"\n**{reading}**; shares of tokens without context: {floor:.3f}\n")
        print("| side | tokens | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean loss | against stock |")
        print(f"|---|---|{'---|' * (len(seeds) + 2)}")
        for (side, share, how), losses in found.items():
            if how != reading:
                continue
            theirs = found["stock script", share, how]
            gaps = [mine - other for mine, other in zip(losses, theirs, strict=True)]
            said = "-" if side == "stock script" else f"{statistics.mean(gaps):+.3f}{error(losses, theirs)}"
            values = " | ".join(f"{loss:.3f}" for loss in losses)
            print(f"| {side} | {share:.0%} | {values} | {statistics.mean(losses):.3f} | {said} |")
        if len({share for _, share, _ in found}) > 1:
            falls = [f"{side} {statistics.mean(found[side, 0.1, reading]):.3f} to "
                     f"{statistics.mean(found[side, 1.0, reading]):.3f}" for side in sides]  # fmt: skip
            print(f"\nFrom a tenth of the tokens to all: {'; '.join(falls)}.")


def error(mine: list[float], theirs: list[float]) -> str:
    """` ± E`, the standard error of the difference of two means over seeds; nothing for one seed."""
    if len(mine) < 2:
        return ""
    return f" ± {(statistics.variance(mine) / len(mine) + statistics.variance(theirs) / len(theirs)) ** 0.5:.3f}"


def tokenizer_for(start: str, folder: Path, work: Path) -> str:
    """MiniLM's own, or one of 8,000 pieces that is trained here."""
    if start == "minilm":
        return PACKAGED_MODEL
    llmkit.train_tokenizer(str(folder / "train.txt"), output_dir=work / "tokenizer", vocab_size=PIECES)
    return str(work / "tokenizer")


def main() -> None:
    """Train every side with every seed, then print a table a way of reading."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path, help="with train.txt and validation.txt")
    words.add_argument("--start", choices=RATES, default="fresh")
    words.add_argument("--tokens", type=int, default=2_000_000, help="tokens of each training (default 2,000,000)")
    words.add_argument("--rate", type=float, help="learning rate (default 5e-4 fresh, 1e-4 minilm)")
    words.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    words.add_argument("--lines", type=int, help="only the first lines of validation.txt (default all)")
    given = words.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    sides: Sides = {"stock script": stock, "llmkit": ours}
    shares = [1.0]
    if given.start == "minilm":
        sides, shares = {"stock script": stock, "stock script, head alone": head_alone, "llmkit": ours}, [0.1, 1.0]
    rate = given.rate or RATES[given.start]
    found: Found = {}
    with TemporaryDirectory() as name:
        work = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        tokenizer = tokenizer_for(given.start, given.folder, work)
        texts = (given.folder / "validation.txt").read_text(encoding="utf-8").splitlines()[: given.lines]
        (work / "lines.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        files = {"each line alone": work / "lines.txt"}
        files["lines joined"] = joined(files["each line alone"], tokenizer, work / "joined.txt")
        floors: dict[str, float] = {}
        for seed in given.seeds:
            for share in shares:
                for side, train in sides.items():
                    tokens = int(given.tokens * share)
                    out = work / f"{seed}-{share}-{side.replace(', ', '-').replace(' ', '-')}"
                    out.mkdir()
                    began = time.process_time()
                    model, seen = train(Plan(given.folder, given.start, tokenizer, tokens, rate, seed, out))
                    spent = time.process_time() - began
                    for reading, file in files.items():
                        loss, floors[reading] = judged(model, file)
                        found.setdefault((side, share, reading), []).append(loss)
                        print(f"seed {seed}, {side}, {seen:,} tokens in {spent:.0f} CPU s, {reading}: {loss:.4f}",
                              file=sys.stderr, flush=True)  # fmt: skip
    show(sides, found, given.seeds, floors)


if __name__ == "__main__":
    main()
