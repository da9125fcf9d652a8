"""CPU time and memory of masked-LM training, llmkit against run_mlm: python benchmarks/mlm_training.py CORPUS.txt.

MiniLM (with a fresh head: its files hold none) and a fresh BERT of 2 layers of width 128 with MiniLM's tokenizer; 8
rows of 512 tokens a step, 2 threads. Timed are the steps of `train()` alone, after a few that warm up. The sides take
turns, each in a process of its own. The stock script joins lines end to end and cuts them into chunks (stock_mlm.py);
llmkit trains on the very same chunks, a chunk a document, so that both do the same work; a last row is llmkit on the
rows that it makes itself, where attention stays within each line. llmkit's sides start as the command line starts,
with threads that wait briefly; as that alone is worth something, a second stock side is given the same setting.
Operations are counted in one more step, after the peak of memory has been read.
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
from typing import Any, NamedTuple

LENGTH, ROWS = 512, 8
SIDES = {
    "stock script, fp32": ("minilm", "tiny"),
    "stock script, fp32, GOMP_SPINCOUNT=5000": ("minilm", "tiny"),
    "stock script, bf16, GOMP_SPINCOUNT=5000": ("minilm",),
    "llmkit, fp32, the script's chunks": ("minilm",),
    "llmkit, as shipped, the script's chunks": ("minilm", "tiny"),
    "llmkit, as shipped, its own rows": ("minilm", "tiny"),
}
STOCK = "stock script, fp32"


class Plan(NamedTuple):
    """What a process is to do."""

    file: str
    model: str
    side: str
    warmup: int
    steps: int
    work: Path  # chunks, caches and run folders

    @property
    def all_steps(self) -> int:
        """With the one in which operations are counted."""
        return self.warmup + self.steps + 1


def stock(plan: Plan) -> tuple[Any, Callable[[], int]]:
    """The script's trainer, and a function that says how many tokens it has seen."""
    import stock_mlm
    import transformers
    from datasets import load_from_disk

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    folder = resolve_model(PACKAGED_MODEL).id
    tokenizer = stock_mlm.tokenizer_of(folder)
    transformers.set_seed(42)
    if plan.model == "tiny":
        shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
        config = transformers.BertConfig(vocab_size=len(tokenizer), **shape)
        model = transformers.AutoModelForMaskedLM.from_config(config)
    else:
        model = stock_mlm.model_of(folder)
    rows = load_from_disk(str(plan.work / "chunks"))
    trainer = stock_mlm.trainer(model, tokenizer, rows, str(plan.work / "stock"), per_device_train_batch_size=ROWS,
                                max_steps=plan.all_steps, bf16="bf16" in plan.side)  # fmt: skip
    return trainer, lambda: trainer.state.global_step * ROWS * LENGTH


def ours(plan: Plan) -> tuple[Any, Callable[[], int]]:
    """llmkit's trainer, built as a run builds it, and a function that says how many tokens it has seen."""
    from llmkit.models.sources.model_ref import PACKAGED_MODEL
    from llmkit.recipe.load import load_recipe
    from llmkit.runs.folder import RunFolder
    from llmkit.training import run as runs
    from llmkit.training.fit import build_trainer
    from llmkit.training.setup import features
    from llmkit.training.setup import model as starting

    keys = ["data.split.validation=0", "data.split.test=0", f"model.max_length={LENGTH}",
            f"train.max_steps={plan.all_steps}", f"train.per_device_train_batch_size={ROWS}",
            f"train.precision={'fp32' if 'fp32' in plan.side else 'auto'}"]  # fmt: skip
    fresh = ["model.from_config=bert-tiny", f"model.tokenizer={PACKAGED_MODEL}"]
    keys += fresh if plan.model == "tiny" else [f"model.name={PACKAGED_MODEL}"]
    start = runs.prepare_run(load_recipe(None, keys, task="mlm", train=plan.file))
    recipe, loaded = starting.load_run_model(start.recipe, start.task, start.model, start.splits.train)
    encoded = features.encode_splits(recipe, start.task, loaded, start.splits)
    if "chunks" in plan.side:
        encoded["train"] = same_chunks(plan, start.task, loaded.tokenizer)
    features.init_output_head(start.task, loaded)
    recipe, _ = features.resolve_settings(recipe, start.splits, loaded)
    folder = plan.work / "ours"
    folder.mkdir(exist_ok=True)
    trainer = build_trainer(recipe, start.task, loaded, start.splits, encoded, RunFolder(folder))
    return trainer, lambda: int(trainer.meter.run_totals().tokens)


def same_chunks(plan: Plan, task: Any, tokenizer: Any) -> Any:
    """The script's chunks as llmkit's features: a block each, whose special tokens are never hidden there either."""
    import numpy as np
    from datasets import load_from_disk

    from llmkit.data.corpus.blocks import Blocks, SpecialTokens, TokenizedDocuments, split_into_chunks
    from llmkit.data.corpus.masking import mask_tokens
    from llmkit.tasks.types import EncodedRows

    rows = np.asarray(load_from_disk(str(plan.work / "chunks")).with_format("numpy")["input_ids"][:], dtype=np.uint16)
    ends = np.arange(1, len(rows) + 1) * LENGTH
    blocks = Blocks(
        TokenizedDocuments(rows.ravel(), ends), split_into_chunks(ends, LENGTH, 0, "documents"), SpecialTokens((), ())
    )
    special = tokenizer.all_special_ids

    def drawn(feature: Any, key: Any) -> list[Any]:
        ids = feature["input_ids"]
        hidden, labels = mask_tokens(ids, np.isin(ids, special), key, task.masking)
        return [{"input_ids": hidden, "labels": labels}]

    task.drawn = drawn
    return EncodedRows(blocks, 0)


def measured(plan: Plan) -> dict[str, Any]:
    """Train in this process; what a token costs in CPU and wall seconds and operations, and the peak of memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from training import peak  # the script beside this one
    from transformers import TrainerCallback

    torch.set_num_threads(2)
    trainer, tokens = stock(plan) if plan.side.startswith("stock") else ours(plan)
    stamps: list[tuple[float, float, int]] = []
    counter, memory = FlopCounterMode(display=False), []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step in (plan.warmup, plan.warmup + plan.steps):
                stamps.append((time.process_time(), time.perf_counter(), tokens()))
            if state.global_step == plan.all_steps:
                counter.__exit__(None, None, None)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step == plan.all_steps - 1:
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                counter.__enter__()

    trainer.add_callback(Clock())
    trainer.train()
    (cpu, wall, before), (cpu_end, wall_end, after) = stamps
    timed, counted = after - before, tokens() - after
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
    operations = counter.get_total_flops() / counted
    spent = (cpu_end - cpu) / timed
    return {"cpu": spent, "wall": (wall_end - wall) / timed, "tokens": timed, "flop": operations, "memory": memory[0],
            "peak": operations / spent / 1e9 / peak(dtype), "precision": str(dtype)}  # fmt: skip


def in_turn(plan: Plan, *flags: str) -> dict[str, Any]:
    """One side in a process of its own, with the environment that its users have."""
    environment = os.environ | {"XDG_CACHE_HOME": str(plan.work)}
    if plan.side.startswith("llmkit") or "GOMP" in plan.side:
        environment["GOMP_SPINCOUNT"] = "5000"  # as llmkit/cli does
    words = {"--model": plan.model, "--side": plan.side, "--warmup": plan.warmup, "--steps": plan.steps,
             "--work": plan.work}  # fmt: skip
    command = [sys.executable, __file__, plan.file, *(str(word) for pair in words.items() for word in pair), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(plan: Plan) -> dict[str, Any]:
    """Make the script's chunks and llmkit's tokens, so that no measured process holds what making them took."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    tokenizer = stock_mlm.tokenizer_of(resolve_model(PACKAGED_MODEL).id)
    rows = stock_mlm.chunks(stock_mlm.lines(plan.file, plan.work / "maps"), tokenizer, LENGTH)
    rows.save_to_disk(str(plan.work / "chunks"))
    ours(plan)
    return {"chunks": len(rows)}


def show(model: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """One row a side."""

    def cost(side: str, what: str) -> float:
        return statistics.median(one[what] for one in found[side])

    print(f"\n**{model}**\n")
    print("| side | CPU µs a token, median | best, worst round | wall µs | MFLOP a token | of the machine's peak "
          "| peak memory | CPU: faster by | wall: faster by |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for side, rounds in found.items():
        spent = [1e6 * one["cpu"] for one in rounds]
        ratios = [cost(STOCK, what) / cost(side, what) for what in ("cpu", "wall")]
        memory = f"{cost(side, 'memory'):,.0f} MiB ({cost(side, 'memory') / cost(STOCK, 'memory'):.2f})"
        precision = "bf16" if "bf" in rounds[0]["precision"] else "fp32"
        print(
            f"| {side}{f' ({precision})' if precision not in side else ''} | {statistics.median(spent):.0f} "
            f"| {min(spent):.0f}, {max(spent):.0f} | {1e6 * cost(side, 'wall'):.0f} | {cost(side, 'flop') / 1e6:.1f} "
            f"| {cost(side, 'peak'):.0%} | {memory} | {ratios[0]:.2f}x | {ratios[1]:.2f}x |"
        )


def main() -> None:
    """Print a table a model, one row a side."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("file", help="a text file, a document a line")
    words.add_argument("--model", choices=("minilm", "tiny"), help="only this model")
    words.add_argument("--steps", type=int, default=12, help="timed steps a side and round (default 12)")
    words.add_argument("--warmup", type=int, default=2, help="steps before them, at least 1 (default 2)")
    words.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    words.add_argument("--side", choices=SIDES, metavar="SIDE", help="only this side, here; with --model and --work")
    words.add_argument("--work", type=Path, help="the folder that --prepare filled")
    words.add_argument("--prepare", action="store_true", help="only make what all sides read, in this process")
    given = words.parse_args()
    if given.side:
        plan = Plan(given.file, given.model, given.side, given.warmup, given.steps, given.work)
        print(json.dumps(prepare(plan) if given.prepare else measured(plan)))
        return
    with TemporaryDirectory() as work:
        in_turn(Plan(given.file, "tiny", STOCK, given.warmup, given.steps, Path(work)), "--prepare")
        for model in [given.model] if given.model else ["minilm", "tiny"]:
            found: dict[str, list[dict[str, Any]]] = {side: [] for side, models in SIDES.items() if model in models}
            for turn in range(given.rounds):
                for side, rounds in found.items():
                    plan = Plan(given.file, model, side, given.warmup, given.steps, Path(work))
                    rounds.append(in_turn(plan))
                    print(f"{turn + 1} {model} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
            show(model, found)


if __name__ == "__main__":
    main()
