"""Tokens that go through the model for one epoch of a file, real and padded: python benchmarks/padding.py FILE.

The same rows in each step of 32: padded to max_length (what stock scripts do by default), padded to the longest row of
the step (dynamic padding), and cut into micro-batches by length as llmkit does.
"""

from __future__ import annotations

import argparse

from llmkit.data.batching import StepSampler, batch_by_length, group_micro_batches, pad_lengths
from llmkit.data.readers.read import read_rows
from llmkit.models.fast.layout import TEXTS_PER_GROUP
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import PACKAGED_MODEL, resolve_model
from llmkit.models.tokenizers.encode import encode_texts
from llmkit.training.batches.micro_batches import PASS_OVERHEAD, ROWS_MULTIPLE


def main() -> None:
    """Print one row a way of padding."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("file")
    words.add_argument("--text", default="text", help="the column of the text")
    words.add_argument("--model", default=PACKAGED_MODEL)
    words.add_argument("--max-length", type=int, default=128)
    words.add_argument("--rows", type=int, default=32, help="rows in a step")
    given = words.parse_args()
    features, _ = encode_texts(
        load_tokenizer(resolve_model(given.model)), read_rows(given.file).texts(given.text), given.max_length
    )
    lengths = [len(feature["input_ids"]) for feature in features]
    steps = [[lengths[row] for row in step] for step in StepSampler(len(lengths), given.rows, seed=42)]
    real = sum(lengths)
    sent = {
        f"padded to {given.max_length}": len(lengths) * given.max_length,
        "padded to the step's longest": sum(len(step) * max(step) for step in steps),
    }
    for precision, overhead in PASS_OVERHEAD["cpu"].items():
        total = passes = 0
        for step in steps:
            groups = group_micro_batches(step, given.rows * given.max_length, overhead, ROWS_MULTIPLE)
            total += sum(len(group) * int(pad_lengths([max(step[i] for i in group)])[0]) for group in groups)
            passes += len(groups)
        sent[f"llmkit, train.fast_path=off, {precision} ({passes / len(steps):.2f} passes a step)"] = total
    sent["llmkit, as shipped (1.00 passes a step)"] = real
    groups_of = [batch_by_length(step, TEXTS_PER_GROUP) for step in steps]
    inside = [
        sum(len(group) * step[group[0]] for group in groups) for groups, step in zip(groups_of, steps, strict=True)
    ]
    sent["- of these, in its attention"] = sum(inside)
    print(f"{len(lengths):,} rows, {real:,} tokens, {len(steps):,} steps\n")
    print("| way | tokens sent | padding |\n|---|---|---|")
    for way, tokens in sent.items():
        print(f"| {way} | {tokens:,} | {1 - real / tokens:.1%} |")


if __name__ == "__main__":
    main()
