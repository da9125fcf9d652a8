"""CPU time and memory of masked-LM training, llmkit against run_mlm: python benchmarks/mlm_training.py CORPUS.txt.

MiniLM (with a newly initialized head: its files have none) and a BERT from scratch, 2 layers of width 128, with
MiniLM's tokenizer; 8 rows of 512 tokens per step, 2 threads. Only the steps of `train()` are timed, after a few warm-up
steps. The sides alternate, each in its own process. The stock script concatenates lines and splits them into chunks
(stock_mlm.py); llmkit trains on the same chunks, one per document, so that both do the same work; a last row is llmkit
on its own rows, with attention inside each line only. llmkit's sides use the environment of its command line
(GOMP_SPINCOUNT); as that alone saves time, a second stock side uses the same setting.
Operations are counted in one more step, after the peak memory has been read.
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


class Measurement(NamedTuple):
    """The settings of one measuring process."""

    file: str
    model: str
    side: str
    warmup: int
    steps: int
    work: Path  # chunks, caches and run folders

    @property
    def all_steps(self) -> int:
        """All steps, including the one in which operations are counted."""
        return self.warmup + self.steps + 1


def build_stock_trainer(settings: Measurement) -> tuple[Any, Callable[[], int]]:
    """Build the script's trainer, and a function that counts its training tokens."""
    import stock_mlm
    import transformers
    from datasets import load_from_disk

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    folder = resolve_model(PACKAGED_MODEL).id
    tokenizer = stock_mlm.load_stock_tokenizer(folder)
    transformers.set_seed(42)
    if settings.model == "tiny":
        shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
        config = transformers.BertConfig(vocab_size=len(tokenizer), **shape)
        model = transformers.AutoModelForMaskedLM.from_config(config)
    else:
        model = stock_mlm.load_stock_model(folder)
    rows = load_from_disk(str(settings.work / "chunks"))
    trainer = stock_mlm.build_stock_trainer(
        model, tokenizer, rows, str(settings.work / "stock"), per_device_train_batch_size=ROWS,
        max_steps=settings.all_steps, bf16="bf16" in settings.side,
    )  # fmt: skip
    return trainer, lambda: trainer.state.global_step * ROWS * LENGTH


def build_llmkit_trainer(settings: Measurement) -> tuple[Any, Callable[[], int]]:
    """Build llmkit's trainer as a run does, and a function that counts its training tokens."""
    from llmkit.models.sources.model_ref import PACKAGED_MODEL
    from llmkit.recipe.load import load_recipe
    from llmkit.runs.folder import RunFolder
    from llmkit.training import run as runs
    from llmkit.training.fit import build_trainer
    from llmkit.training.setup import features
    from llmkit.training.setup import model as setup

    keys = ["data.split.validation=0", "data.split.test=0", f"model.max_length={LENGTH}",
            f"train.max_steps={settings.all_steps}", f"train.batch_size={ROWS}",
            f"train.precision={'fp32' if 'fp32' in settings.side else 'auto'}"]  # fmt: skip
    scratch = ["model.from_config=bert-tiny", f"model.tokenizer={PACKAGED_MODEL}"]
    keys += scratch if settings.model == "tiny" else [f"model.name={PACKAGED_MODEL}"]
    start = runs.prepare_run(load_recipe(None, keys, task="mlm", train=settings.file))
    recipe, loaded = setup.load_run_model(start.recipe, start.task, start.model, start.splits.train)
    encoded = features.encode_splits(recipe, start.task, loaded, start.splits)
    if "chunks" in settings.side:
        encoded["train"] = convert_chunks(settings, start.task, loaded.tokenizer)
    features.init_output_head(start.task, loaded)
    recipe, _ = features.resolve_settings(recipe, start.splits, loaded)
    folder = settings.work / "ours"
    folder.mkdir(exist_ok=True)
    trainer = build_trainer(recipe, start.task, loaded, start.splits, encoded, RunFolder(folder))
    return trainer, lambda: int(trainer.meter.run_totals().tokens)


def convert_chunks(settings: Measurement, task: Any, tokenizer: Any) -> Any:
    """Convert the script's chunks to llmkit's features: one block each, special tokens are never masked."""
    import numpy as np
    from datasets import load_from_disk

    from llmkit.data.corpus.blocks import Blocks, SpecialTokens, TokenizedDocuments, split_into_chunks
    from llmkit.data.corpus.masking import mask_tokens
    from llmkit.tasks.types import EncodedRows

    rows = np.asarray(
        load_from_disk(str(settings.work / "chunks")).with_format("numpy")["input_ids"][:], dtype=np.uint16
    )
    ends = np.arange(1, len(rows) + 1) * LENGTH
    blocks = Blocks(
        TokenizedDocuments(rows.ravel(), ends), split_into_chunks(ends, LENGTH, 0, "documents"), SpecialTokens((), ())
    )
    special = tokenizer.all_special_ids

    def augment(feature: Any, key: Any) -> list[Any]:
        ids = feature["input_ids"]
        masked, labels = mask_tokens(ids, np.isin(ids, special), key, task.masking)
        return [{"input_ids": masked, "labels": labels}]

    task.augment = augment
    return EncodedRows(blocks, 0)


def measure(settings: Measurement) -> dict[str, Any]:
    """Train in this process; return CPU and wall seconds and operations per token, and the peak memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from training import peak  # the script beside this one
    from transformers import TrainerCallback

    torch.set_num_threads(2)
    trainer, tokens = (
        build_stock_trainer(settings) if settings.side.startswith("stock") else build_llmkit_trainer(settings)
    )
    stamps: list[tuple[float, float, int]] = []
    counter, memory = FlopCounterMode(display=False), []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step in (settings.warmup, settings.warmup + settings.steps):
                stamps.append((time.process_time(), time.perf_counter(), tokens()))
            if state.global_step == settings.all_steps:
                counter.__exit__(None, None, None)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step == settings.all_steps - 1:
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                counter.__enter__()

    trainer.add_callback(Clock())
    trainer.train()
    (cpu, wall, before), (cpu_end, wall_end, after) = stamps
    timed, counted = after - before, tokens() - after
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
    operations = counter.get_total_flops() / counted
    seconds = (cpu_end - cpu) / timed
    return {"cpu": seconds, "wall": (wall_end - wall) / timed, "tokens": timed, "flop": operations, "memory": memory[0],
            "peak": operations / seconds / 1e9 / peak(dtype), "precision": str(dtype)}  # fmt: skip


def run_in_process(settings: Measurement, *flags: str) -> dict[str, Any]:
    """Run one side in its own process, in the environment that its users have."""
    environment = os.environ | {"XDG_CACHE_HOME": str(settings.work)}
    if settings.side.startswith("llmkit") or "GOMP" in settings.side:
        environment["GOMP_SPINCOUNT"] = "5000"  # as llmkit/cli does
    options = {"--model": settings.model, "--side": settings.side, "--warmup": settings.warmup,
               "--steps": settings.steps, "--work": settings.work}  # fmt: skip
    arguments = [str(argument) for pair in options.items() for argument in pair]
    command = [sys.executable, __file__, settings.file, *arguments, *flags]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        sys.exit(completed.stderr)
    results: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return results


def prepare_inputs(settings: Measurement) -> dict[str, Any]:
    """Make the script's chunks and llmkit's tokens, so that no measured process includes the memory for that."""
    import stock_mlm

    from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

    tokenizer = stock_mlm.load_stock_tokenizer(resolve_model(PACKAGED_MODEL).id)
    rows = stock_mlm.make_chunks(stock_mlm.load_lines(settings.file, settings.work / "maps"), tokenizer, LENGTH)
    rows.save_to_disk(str(settings.work / "chunks"))
    build_llmkit_trainer(settings)
    return {"chunks": len(rows)}


def print_table(model: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print one row per side."""

    def cost(side: str, what: str) -> float:
        return statistics.median(one[what] for one in results[side])

    print(f"\n**{model}**\n")
    print("| side | CPU µs per token, median | best, worst round | wall µs | MFLOP per token | of the machine's peak "
          "| peak memory | CPU: faster by | wall: faster by |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for side, rounds in results.items():
        seconds = [1e6 * one["cpu"] for one in rounds]
        ratios = [cost(STOCK, what) / cost(side, what) for what in ("cpu", "wall")]
        memory = f"{cost(side, 'memory'):,.0f} MiB ({cost(side, 'memory') / cost(STOCK, 'memory'):.2f})"
        precision = "bf16" if "bf" in rounds[0]["precision"] else "fp32"
        print(
            f"| {side}{f' ({precision})' if precision not in side else ''} | {statistics.median(seconds):.0f} "
            f"| {min(seconds):.0f}, {max(seconds):.0f} | {1e6 * cost(side, 'wall'):.0f} "
            f"| {cost(side, 'flop') / 1e6:.1f} "
            f"| {cost(side, 'peak'):.0%} | {memory} | {ratios[0]:.2f}x | {ratios[1]:.2f}x |"
        )


def main() -> None:
    """Print one table per model, one row per side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a text file, one document per line")
    parser.add_argument("--model", choices=("minilm", "tiny"), help="only this model")
    parser.add_argument("--steps", type=int, default=12, help="timed steps per side and round (default 12)")
    parser.add_argument("--warmup", type=int, default=2, help="warm-up steps, at least 1 (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    parser.add_argument(
        "--side", choices=SIDES, metavar="SIDE", help="only this side, in this process; needs --model and --work"
    )
    parser.add_argument("--work", type=Path, help="the folder that --prepare filled")
    parser.add_argument("--prepare", action="store_true", help="only prepare the inputs of all sides, in this process")
    args = parser.parse_args()
    if args.side:
        settings = Measurement(args.file, args.model, args.side, args.warmup, args.steps, args.work)
        print(json.dumps(prepare_inputs(settings) if args.prepare else measure(settings)))
        return
    with TemporaryDirectory() as work:
        run_in_process(Measurement(args.file, "tiny", STOCK, args.warmup, args.steps, Path(work)), "--prepare")
        for model in [args.model] if args.model else ["minilm", "tiny"]:
            results: dict[str, list[dict[str, Any]]] = {side: [] for side, models in SIDES.items() if model in models}
            for round_index in range(args.rounds):
                for side, rounds in results.items():
                    settings = Measurement(args.file, model, side, args.warmup, args.steps, Path(work))
                    rounds.append(run_in_process(settings))
                    print(f"{round_index + 1} {model} {side}: {rounds[-1]}", file=sys.stderr, flush=True)
            print_table(model, results)


if __name__ == "__main__":
    main()
