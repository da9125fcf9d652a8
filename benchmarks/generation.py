"""CPU time of text generation, llmkit against Seq2SeqTrainer: python benchmarks/generation.py DATA.jsonl.

A small T5 is trained from scratch for a few steps on the file's `text` and `summary` (so that generated texts end, at
different lengths), then both sides generate for the same rows with the same folder: Seq2SeqTrainer.predict with default
arguments (8 rows per batch, in file order, padded to the longest), and `llmkit.predict`. Loading the folder is timed on
both sides, importing libraries on neither. The sides alternate, each in its own process. The number of equal texts is
printed: all should be equal. `--model FOLDER` uses an existing encoder-decoder instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import llmkit

SOURCE, TARGET = 512, 64  # tokens, llmkit's defaults for summaries
SHAPE = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4, "dropout_rate": 0.0}
PIECES = 4000
SPECIAL = ["<pad>", "</s>", "<unk>"]


def read_first_rows(file: str, number: int) -> list[dict[str, Any]]:
    """Read the first rows of the file."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:number]]


def make_model(folder: str, rows: Sequence[dict[str, Any]], steps: int) -> None:
    """Train a small T5 on some of the rows and save it."""
    tokenizer = train_small_tokenizer([row[key] for row in rows for key in ("text", "summary")])
    transformers.set_seed(0)
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **SHAPE)
    model = transformers.T5ForConditionalGeneration(config)
    model.generation_config.max_new_tokens = TARGET
    arguments = {"learning_rate": 3e-3, "max_steps": steps, "lr_scheduler_type": "constant"}
    build_trainer(model, tokenizer, folder, **arguments, train=encode_rows(tokenizer, rows)).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_small_tokenizer(texts: Sequence[str]) -> Any:
    """Train a unigram tokenizer with T5's special tokens on these texts."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=SOURCE, **names)


def encode_rows(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Encode the rows as the transformers examples do."""
    return [
        {
            "input_ids": tokenizer(row["text"], truncation=True, max_length=SOURCE).input_ids,
            "labels": tokenizer(row["summary"], truncation=True, max_length=TARGET).input_ids,
        }
        for row in rows
    ]


def build_trainer(
    model: Any, tokenizer: Any, folder: str, train: Any = None, **kwargs: Any
) -> transformers.Seq2SeqTrainer:
    """Build a Seq2SeqTrainer as the transformers examples do."""
    arguments = transformers.Seq2SeqTrainingArguments(
        folder,
        predict_with_generate=True,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        **kwargs,
    )
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, model)
    trainer = transformers.Seq2SeqTrainer(
        model, arguments, train_dataset=train, data_collator=collator, processing_class=tokenizer
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def predict_stock(folder: str, rows: Sequence[dict[str, Any]], scratch: str) -> list[str]:
    """Generate with Seq2SeqTrainer.predict."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokens = build_trainer(model, tokenizer, scratch).predict(encode_rows(tokenizer, rows)).predictions
    tokens[tokens < 0] = tokenizer.pad_token_id
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def predict_llmkit(folder: str, rows: Sequence[dict[str, Any]], _: str) -> list[str]:
    """Generate with llmkit.predict."""
    predictions = llmkit.predict(folder, [row["text"] for row in rows], task="summarize")
    return [row["prediction"].strip() for row in predictions]


SIDES: dict[str, Callable[[str, Sequence[dict[str, Any]], str], list[str]]] = {
    "stock": predict_stock,
    "llmkit": predict_llmkit,
}


def run_side(side: str, folder: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the CPU seconds and the generated texts of one side as JSON."""
    torch.set_num_threads(2)
    with TemporaryDirectory() as scratch:
        SIDES[side](folder, rows[:2], scratch)  # warm-up: imports and compilations at first use
        start = time.process_time()
        predictions = SIDES[side](folder, rows, scratch)
        print(json.dumps({"seconds": time.process_time() - start, "predictions": predictions}))


def run_in_process(args: Sequence[str], side: str, folder: str) -> dict[str, Any]:
    """Run one side in its own process and return what it prints."""
    command = [sys.executable, __file__, *args, "--side", side, "--model", folder]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print one row per side, the ratio, and the number of equal texts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="training steps of 8 rows")
    parser.add_argument("--model", help="an existing model folder")
    parser.add_argument("--side", choices=SIDES, help="only this side, in this process")
    args = parser.parse_args()
    rows = read_first_rows(args.file, args.rows)
    if args.side:
        run_side(args.side, args.model, rows)
        return
    with TemporaryDirectory() as temporary:
        folder = args.model or temporary
        if not args.model:
            make_model(folder, rows, args.steps)
        times_by_side: dict[str, list[float]] = {side: [] for side in SIDES}
        predictions: dict[str, list[str]] = {}
        for turn in range(args.rounds):
            for side, times in times_by_side.items():
                result = run_in_process([args.file, "--rows", str(args.rows)], side, folder)
                times.append(result["seconds"])
                predictions[side] = result["predictions"]
                print(f"{turn + 1} {side}: {times[-1]:.2f}", file=sys.stderr, flush=True)
    print("| side | CPU s, median | best, worst round |\n|---|---|---|")
    for side, times in times_by_side.items():
        print(f"| {side} | {statistics.median(times):.2f} | {min(times):.2f}, {max(times):.2f} |")
    cost = {side: statistics.median(times) for side, times in times_by_side.items()}
    equal = sum(one == other for one, other in zip(predictions["stock"], predictions["llmkit"], strict=True))
    lengths = [len(prediction.split()) for prediction in predictions["stock"]]
    print(f"\nllmkit takes {cost['stock'] / cost['llmkit']:.2f} times fewer CPU seconds")
    print(f"{equal} of {len(rows)} predictions are equal; they have {min(lengths)} to {max(lengths)} words")


if __name__ == "__main__":
    main()
