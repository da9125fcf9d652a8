"""Counts the tokens that the model processes in one epoch, real and padded: python benchmarks/padding.py FILE.

The same 32 rows per step: padded to max_length (default of stock scripts), padded to the longest row of the step
(dynamic padding), and grouped into micro-batches by length as in llmkit.
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
    """Print one row per padding strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--text", default="text", help="the column of the text")
    parser.add_argument("--model", default=PACKAGED_MODEL)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--rows", type=int, default=32, help="rows in a step")
    args = parser.parse_args()
    features, _ = encode_texts(
        load_tokenizer(resolve_model(args.model)), read_rows(args.file).texts(args.text), args.max_length
    )
    lengths = [len(feature["input_ids"]) for feature in features]
    steps = [[lengths[row] for row in step] for step in StepSampler(len(lengths), args.rows, seed=42)]
    real = sum(lengths)
    processed = {
        f"padded to {args.max_length}": len(lengths) * args.max_length,
        "padded to the step's longest": sum(len(step) * max(step) for step in steps),
    }
    for precision, overhead in PASS_OVERHEAD["cpu"].items():
        total = passes = 0
        for step in steps:
            groups = group_micro_batches(step, args.rows * args.max_length, overhead, ROWS_MULTIPLE)
            total += sum(len(group) * int(pad_lengths([max(step[i] for i in group)])[0]) for group in groups)
            passes += len(groups)
        processed[f"llmkit, train.fast_path=off, {precision} ({passes / len(steps):.2f} passes a step)"] = total
    processed["llmkit, as shipped (1.00 passes a step)"] = real
    step_groups = [batch_by_length(step, TEXTS_PER_GROUP) for step in steps]
    attention_tokens = [
        sum(len(group) * step[group[0]] for group in groups) for groups, step in zip(step_groups, steps, strict=True)
    ]
    processed["- of these, in its attention"] = sum(attention_tokens)
    print(f"{len(lengths):,} rows, {real:,} tokens, {len(steps):,} steps\n")
    print("| strategy | tokens processed | padding |\n|---|---|---|")
    for strategy, tokens in processed.items():
        print(f"| {strategy} | {tokens:,} | {1 - real / tokens:.1%} |")


if __name__ == "__main__":
    main()
