"""CPU time from lines of text to training blocks, llmkit against run_mlm: python benchmarks/blocks.py CORPUS.txt.

MiniLM's tokenizer, blocks of 512 tokens, one process and two threads a side; the sides take turns. `make` is the step
from texts in memory to a data set for training: the tokenizing map and the grouping map in the stock script; tokens,
cache, blocks and the counts of the baseline in llmkit. `look` is one pass over all blocks, which llmkit builds when
they are read. The bare tokenizer is the lower bound of every cold side: it tokenizes the texts alone, without offsets,
masks and special tokens. The warm side of llmkit reads the token cache of the cold side.
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


def bare_steps(file: str, _: Path) -> list[Callable[[Any], Any]]:
    """Read the lines and tokenize them."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    backend = stock_mlm.load_stock_tokenizer(resolve_model(PACKAGED_MODEL).id).backend_tokenizer
    return [
        lambda _: Path(file).read_text(encoding="utf-8").splitlines(),
        lambda texts: backend.encode_batch_fast(texts, add_special_tokens=False),
    ]


def stock_steps(file: str, cache: Path) -> list[Callable[[Any], Any]]:
    """The three steps of the stock script."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    tokenizer = stock_mlm.load_stock_tokenizer(resolve_model(PACKAGED_MODEL).id)
    return [
        lambda _: stock_mlm.load_lines(file, cache),
        lambda texts: stock_mlm.make_chunks(texts, tokenizer, LENGTH),
        lambda rows: sum(len(row["input_ids"]) for row in rows),
    ]


def llmkit_steps(file: str, _: Path) -> list[Callable[[Any], Any]]:
    """The three steps of llmkit, as in a run."""
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


def measure_side(file: str, side: str, cache: Path) -> dict[str, float]:
    """Measure the CPU seconds of each step of one side in this process, and its peak memory in MiB."""
    import torch  # here, so that no side includes the import
    import transformers

    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    build = bare_steps if side.startswith("bare") else stock_steps if side.startswith("stock") else llmkit_steps
    seconds, value = {}, None
    for part, work in zip(PARTS, build(file, cache), strict=False):
        start = time.process_time()
        value = work(value)
        seconds[part] = time.process_time() - start
    if isinstance(value, int):
        seconds["tokens"] = value
    return seconds | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run_side(file: str, side: str, cache: Path) -> dict[str, float]:
    """Run one side in its own process, with `cache` for all files that it keeps."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, __file__, file, "--side", side, "--cache", str(cache)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stderr)
    measured: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return measured


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Print one row a side; each figure is the median of the rounds."""

    def cost(side: str, *parts: str) -> float:
        return statistics.median(sum(one.get(part, 0.0) for part in parts) for one in results[side])

    print("| side | read, CPU s | make, CPU s | best, worst | look, CPU s | make, of stock | all three, of stock "
          "| peak memory |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for side, rounds in results.items():
        seconds, complete = [one["make"] for one in rounds], "look" in rounds[0]
        looked = f"{cost(side, 'look'):.2f}" if complete else "-"
        share = f"{cost(side, *PARTS) / cost('stock script', *PARTS):.2f}" if complete else "-"
        print(
            f"| {side} | {cost(side, 'read'):.2f} | {cost(side, 'make'):.2f} | {min(seconds):.2f}, {max(seconds):.2f} "
            f"| {looked} | {cost(side, 'make') / cost('stock script', 'make'):.2f} | {share} "
            f"| {cost(side, 'memory'):,.0f} MiB |"
        )
    tokens = [f"{side} {rounds[0]['tokens']:,.0f}" for side, rounds in results.items() if "tokens" in rounds[0]]
    print(f"\nTokens in blocks: {', '.join(tokens)}")


def main() -> None:
    """Print one row a side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a text file, a document a line")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    parser.add_argument("--side", choices=SIDES, metavar="SIDE", help="only this side, in this process")
    parser.add_argument("--cache", type=Path, help="where --side keeps its files")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure_side(args.file, args.side, args.cache)))
        return
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(args.rounds):
        with TemporaryDirectory() as cache:
            for side, rounds in results.items():
                rounds.append(run_side(args.file, side, Path(cache)))
                print(f"{turn + 1} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
    print_table(results)


if __name__ == "__main__":
    main()
