"""What one more pass and one new shape cost on this CPU: python benchmarks/passes.py. Behind OVERHEAD in trainer.py.

The same 512 tokens go through MiniLM forward and backward in one pass and in two, in turns; the difference is the price
of a pass, in tokens. The first pass of a shape, less a second one, is the price of a new shape: for row counts that are
multiples of 8 and for others.
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


def step(model: Any, shapes: list[tuple[int, int]], precision: str) -> float:
    """CPU seconds of forward and backward over batches of these shapes."""
    start = time.process_time()
    for rows, length in shapes:
        cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with cast:
            logits = model(input_ids=torch.full((rows, length), 2000)).logits
        logits.float().sum().backward()
    return time.process_time() - start


def price_of_a_shape(model: Any, row_counts: range, precision: str) -> float:
    """CPU seconds by which the first pass of a shape exceeds the second: the mean over row counts and two lengths."""
    shapes = [(rows, length) for rows in row_counts for length in (24, 40)]
    return statistics.mean(step(model, [shape], precision) - step(model, [shape], precision) for shape in shapes)


def main() -> None:
    """Print one row a precision."""
    model = load_model(
        resolve_model(PACKAGED_MODEL), "AutoModelForSequenceClassification", {"num_labels": 2}
    ).model.train()
    sides = {"one": [(32, 16)], "two": [(16, 16)] * 2, "double": [(32, 32)]}
    print("| precision | ms a token | a pass, in tokens | a new shape, 8 k rows, CPU s | other rows, CPU s |")
    print("|---|---|---|---|---|")
    for precision in ("fp32", "bf16"):
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, shapes in sides.items():
                taken[name].append(step(model, shapes, precision))
        one, two, double = (statistics.median(seconds[2:]) for seconds in taken.values())
        token = (double - one) / 512
        even = price_of_a_shape(model, range(8, 33, 8), precision)
        odd = price_of_a_shape(model, range(9, 32, 4), precision)
        print(f"| {precision} | {token * 1000:.2f} | {(two - one) / token:.0f} | {even:.2f} | {odd:.2f} |")


if __name__ == "__main__":
    main()
