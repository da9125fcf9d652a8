"""CPU time from lines of text to training blocks, llmkit against run_mlm: python benchmarks/blocks.py CORPUS.txt.

MiniLM's tokenizer, blocks of 512 tokens, one process and two threads a side; the sides take turns. `make` is what
stands between the texts in memory and a data set that can be trained on: for the stock script the tokenizing map and
the grouping map, for llmkit tokens, cache, blocks and the counts of its baseline. `look` is one pass over all blocks,
which llmkit puts together when they are asked for. The bare tokenizer is the floor of every cold side; its cost is
that of the texts alone, without offsets, masks and special tokens. llmkit's warm side finds the cold one's tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LENGTH = 512
SIDES = ("bare tokenizer", "stock script", "llmkit, cold cache", "llmkit, warm cache")
PARTS = ("read", "make", "look")


def bare(file: str, _: Path) -> list[Callable[[Any], Any]]:
    """Reading the lines and tokenizing them, and no more."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    backend = stock_mlm.load_stock_tokenizer(resolve_model(PACKAGED_MODEL).id).backend_tokenizer
    return [
        lambda _: Path(file).read_text(encoding="utf-8").splitlines(),
        lambda texts: backend.encode_batch_fast(texts, add_special_tokens=False),
    ]


def stock(file: str, cache: Path) -> list[Callable[[Any], Any]]:
    """The three parts of the script."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    tokenizer = stock_mlm.load_stock_tokenizer(resolve_model(PACKAGED_MODEL).id)
    return [
        lambda _: stock_mlm.load_lines(file, cache),
        lambda texts: stock_mlm.make_chunks(texts, tokenizer, LENGTH),
        lambda rows: sum(len(row["input_ids"]) for row in rows),
    ]


def ours(file: str, _: Path) -> list[Callable[[Any], Any]]:
    """The three parts of llmkit, as a run does them."""
    from llmkit import tasks
    from llmkit.data.prepare import read_splits
    from llmkit.models.load import load_tokenizer
    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model
    from llmkit.recipe.load import load_recipe

    recipe = load_recipe(None, ["data.split.validation=0", "data.split.test=0"], task="mlm", train=file)
    task = tasks.load_task("mlm")(recipe.options)
    tokenizer = load_tokenizer(resolve_model(PACKAGED_MODEL), task.required_special_tokens)
    return [
        lambda _: read_splits(recipe.data, task).train,
        lambda rows: task.encode_train(rows, tokenizer, LENGTH).features,
        lambda blocks: sum(len(block["input_ids"]) for block in blocks),
    ]


def one_side(file: str, side: str, cache: Path) -> dict[str, float]:
    """CPU seconds of each part of one side in this process, and its largest memory in MiB."""
    import torch  # here, so that no side pays for it
    import transformers

    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    build = bare if side.startswith("bare") else stock if side.startswith("stock") else ours
    found, made = {}, None
    for part, work in zip(PARTS, build(file, cache), strict=False):
        start = time.process_time()
        made = work(made)
        found[part] = time.process_time() - start
    if isinstance(made, int):
        found["tokens"] = made
    return found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_turn(file: str, side: str, cache: Path) -> dict[str, float]:
    """One side in a process of its own, with `cache` for everything that it keeps."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, __file__, file, "--side", side, "--cache", str(cache)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(found: dict[str, list[dict[str, float]]]) -> None:
    """One row a side, each figure the median of the rounds."""

    def cost(side: str, *parts: str) -> float:
        return statistics.median(sum(one.get(part, 0.0) for part in parts) for one in found[side])

    print("| side | read, CPU s | make, CPU s | best, worst | look, CPU s | make, of stock | all three, of stock "
          "| peak memory |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for side, rounds in found.items():
        made, whole = [one["make"] for one in rounds], "look" in rounds[0]
        looked = f"{cost(side, 'look'):.2f}" if whole else "-"
        share = f"{cost(side, *PARTS) / cost('stock script', *PARTS):.2f}" if whole else "-"
        print(
            f"| {side} | {cost(side, 'read'):.2f} | {cost(side, 'make'):.2f} | {min(made):.2f}, {max(made):.2f} "
            f"| {looked} | {cost(side, 'make') / cost('stock script', 'make'):.2f} | {share} "
            f"| {cost(side, 'memory'):,.0f} MiB |"
        )
    held = [f"{side} {rounds[0]['tokens']:,.0f}" for side, rounds in found.items() if "tokens" in rounds[0]]
    print(f"\nTokens in blocks: {', '.join(held)}")


def main() -> None:
    """Print one row a side."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("file", help="a text file, a document a line")
    words.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    words.add_argument("--side", choices=SIDES, metavar="SIDE", help="only this side, in this process")
    words.add_argument("--cache", type=Path, help="where --side keeps what it makes")
    given = words.parse_args()
    if given.side:
        print(json.dumps(one_side(given.file, given.side, given.cache)))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(given.rounds):
        with TemporaryDirectory() as cache:
            for side, rounds in found.items():
                rounds.append(in_turn(given.file, side, Path(cache)))
                print(f"{turn + 1} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
    show(found)


if __name__ == "__main__":
    main()
