"""Measures tokens per second on one and two processes, and predicts 8 and 64 GPUs: python benchmarks/scaling.py.

MiniLM on the BBC headlines (both from packages), --rows per step, one thread per process, the sides in turns. The
results are compared with the formula of docs/scaling.md, with the measured seconds of a step on one process and of an
all-reduce of the gradient over two. The prediction for GPUs follows from counts (multiplications per token, bytes of
gradient, balance of the steps) and the assumptions in `Cluster`; it was not measured on several GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from llmkit.data.batching import StepSampler, partition_balanced
from llmkit.data.prepare import read_splits
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model
from llmkit.recipe.load import load_recipe
from llmkit.tasks.classify import Classify

RECIPE = "classify/bbc-headlines"
KEYS = ("train.eval_strategy=no", "train.save_strategy=no", "train.precision=fp32")


@dataclass(frozen=True)
class Model:
    """Size of a model: weights in computation and in the gradient."""

    name: str
    body: float  # weights that each token is multiplied with
    all: float  # weights that have a gradient


@dataclass(frozen=True)
class Cluster:
    """Assumptions on a cluster: computing rate of a GPU, bandwidth within and between machines, and latency."""

    flops: float = 0.3 * 989e12  # 30 % of an H100's bf16 peak, without sparsity
    inside: float = 300e9  # bytes a second of one GPU's ring over NVLink
    between: float = 50e9  # the same over a network of 400 Gbit/s a GPU
    latency: float = 15e-6  # seconds of one hop of a ring
    machine: int = 8  # GPUs of one


MODELS = (Model("MiniLM, 6 x 384", 10.6e6, 22.7e6), Model("BERT base, 12 x 768", 85.1e6, 109.5e6))


def estimate_step_seconds(model: Model, tokens: float, gpus: int, uneven: float, on: Cluster) -> tuple[float, float]:
    """Estimate the seconds of one step for computing and for reducing the gradient (ring all-reduce in fp32)."""
    computing = 6 * model.body * tokens / gpus * uneven / on.flops
    if gpus == 1:
        return computing, 0.0
    bandwidth = on.inside if gpus <= on.machine else on.between
    return computing, 2 * (gpus - 1) / gpus * 4 * model.all / bandwidth + 2 * (gpus - 1) * on.latency


def estimate_efficiency(model: Model, tokens: float, gpus: int, uneven: float, on: Cluster) -> tuple[float, float]:
    """Estimate the minimum and maximum efficiency: seconds of one GPU / total seconds of all GPUs."""
    least, most = bound_efficiency(*estimate_step_seconds(model, tokens, gpus, uneven, on))
    return least / uneven, most / uneven


def bound_efficiency(computing: float, sending: float) -> tuple[float, float]:
    """Return the efficiency without any overlap of communication, and with the most that the backward pass (two thirds
    of the computing) can overlap."""
    hidden = max(0.0, sending - computing * 2 / 3)
    return computing / (computing + sending), computing / (computing + hidden)


def time_all_reduce(size: int) -> float:
    """Return the median seconds of an all-reduce of `size` bytes over two processes here."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, "--sum", str(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def run_all_reduce(size: int) -> None:
    """Run one process of `time_all_reduce`; the main process prints the median of ten."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    numbers, results = torch.ones(size // 4), []
    for _ in range(12):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(numbers)
        results.append(time.perf_counter() - start)
    if dist.get_rank() == 0:
        print(statistics.median(results[2:]))
    dist.destroy_process_group()


def load_token_lengths() -> list[int]:
    """Return the number of tokens of each training row."""
    recipe = load_recipe(RECIPE, [f"model.name={PACKAGED_MODEL}"])
    task = Classify(recipe.options)  # type: ignore[arg-type]
    splits = read_splits(recipe.data, task)
    task.fit(splits.train, splits.holdout)
    features = task.encode(
        splits.train, load_tokenizer(resolve_model(PACKAGED_MODEL)), recipe.model.max_length
    ).features
    return [len(feature["input_ids"]) for feature in features]


def measure_imbalance(sizes: Sequence[int], rows: int, gpus: int) -> float:
    """Return the mean over steps of (tokens of the largest part / mean tokens). Rows repeat if the file has too few."""
    many = np.resize(np.asarray(sizes), max(len(sizes), 4 * rows))
    results = []
    for step in list(StepSampler(len(many), rows, 0))[:20]:
        sums = [sum(many[step[i]] for i in part) for part in partition_balanced([int(many[row]) for row in step], gpus)]
        results.append(max(sums) / (sum(sums) / gpus))
    return statistics.mean(results)


def measure_rate(processes: int, steps: int, rows: int) -> float:
    """Run llmkit and return the tokens per second from its log."""
    with TemporaryDirectory() as folder:
        args = [RECIPE, *KEYS, f"train.max_steps={steps}", f"train.batch_size={rows}",
                 "--model", PACKAGED_MODEL, "-o", f"{folder}/run", "--processes", str(processes)]  # fmt: skip
        command = [sys.executable, "-m", "llmkit", "train", *args]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        events = [json.loads(line) for line in (Path(folder) / "run" / "log.jsonl").read_text().splitlines()]
    return next(float(event["train_tokens_per_second"]) for event in events if "train_tokens_per_second" in event)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--sum", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sum:
        run_all_reduce(args.sum)
        return
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.rounds):
        for processes in (1, 2):
            rates[processes].append(measure_rate(processes, args.steps, args.rows))
    print("\n| processes here | tokens a second, median | lowest, highest | efficiency |\n|---|---|---|---|")
    for processes, results in rates.items():
        median = statistics.median(results)
        of_one = median / statistics.median(rates[1]) / processes
        print(f"| {processes} | {median:,.0f} | {min(results):,.0f}, {max(results):,.0f} | {of_one:.0%} |")
    sizes, on, minilm = load_token_lengths(), Cluster(), MODELS[0]
    alone = args.rows * statistics.mean(sizes) / statistics.median(rates[1])
    sending = time_all_reduce(int(4 * minilm.all))
    least, most = bound_efficiency(alone / 2 * measure_imbalance(sizes, args.rows, 2), sending)
    print(
        f"\nA step takes {alone:.3f} s on one process, and two sum {4 * minilm.all / 1e6:.0f} MB in {sending:.3f} s: ",
        end="",
    )
    print(f"by the formula {least:.0%} to {most:.0%} on two.")
    print(f"\n{len(sizes):,} training rows of {statistics.mean(sizes):.1f} tokens.")
    print("\n| model | rows a step | GPUs | largest part / mean | predicted efficiency |\n|---|---|---|---|---|")
    for model in MODELS:
        for rows in (512, 4096, 32768):
            for gpus in (8, 64):
                uneven = measure_imbalance(sizes, rows, gpus)
                least, most = estimate_efficiency(model, rows * statistics.mean(sizes), gpus, uneven, on)
                print(f"| {model.name} | {rows:,} | {gpus} | {uneven:.3f} | {least:.0%} to {most:.0%} |")


if __name__ == "__main__":
    main()
