"""Measures the CPU cost of one more pass and of one new tensor shape: python benchmarks/passes.py.

PASS_OVERHEAD in llmkit/training/batches/micro_batches.py is based on it. MiniLM processes the same 512 tokens forward
and backward in one pass and in two, alternating; the difference is the cost of a pass, in tokens. The time of the first
pass with a shape minus that of a second one is the cost of a new shape, for row counts that are multiples of 8 and for
others.
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch

from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model

ROUNDS = 22


def time_step(model: Any, shapes: list[tuple[int, int]], precision: str) -> float:
    """Return the CPU seconds of forward and backward over batches of these shapes."""
    start = time.process_time()
    for rows, length in shapes:
        cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with cast:
            logits = model(input_ids=torch.full((rows, length), 2000)).logits
        logits.float().sum().backward()
    return time.process_time() - start


def measure_shape_cost(model: Any, row_counts: range, precision: str) -> float:
    """Return the extra CPU seconds of a shape's first pass: the mean over row counts and two lengths."""
    shapes = [(rows, length) for rows in row_counts for length in (24, 40)]
    return statistics.mean(
        time_step(model, [shape], precision) - time_step(model, [shape], precision) for shape in shapes
    )


def main() -> None:
    """Print one row per precision."""
    model = load_model(
        resolve_model(PACKAGED_MODEL), "AutoModelForSequenceClassification", {"num_labels": 2}
    ).model.train()
    sides = {"one": [(32, 16)], "two": [(16, 16)] * 2, "double": [(32, 32)]}
    print("| precision | ms a token | a pass, in tokens | a new shape, 8 k rows, CPU s | other rows, CPU s |")
    print("|---|---|---|---|---|")
    for precision in ("fp32", "bf16"):
        seconds_by_side: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, shapes in sides.items():
                seconds_by_side[name].append(time_step(model, shapes, precision))
        one, two, double = (statistics.median(seconds[2:]) for seconds in seconds_by_side.values())
        token = (double - one) / 512
        even = measure_shape_cost(model, range(8, 33, 8), precision)
        odd = measure_shape_cost(model, range(9, 32, 4), precision)
        print(f"| {precision} | {token * 1000:.2f} | {(two - one) / token:.0f} | {even:.2f} | {odd:.2f} |")


if __name__ == "__main__":
    main()
