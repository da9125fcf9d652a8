"""CPU time of answers, llmkit against Seq2SeqTrainer: python benchmarks/generation.py DATA.jsonl.

A small T5 from its config learns for a few steps from the file's `text` and `summary` (so that answers end, at unequal
lengths), then both sides answer the same rows with the same folder: Seq2SeqTrainer.predict as its arguments stand
(8 rows a batch, in the file's order, padded to the longest), and `llmkit.predict`. Loading the folder is counted on
both sides, importing libraries on neither. The sides take turns, each in a process of its own. How many decoded texts
are equal is printed: all should be. `--model FOLDER` takes an encoder-decoder that is there instead.
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

SOURCE, TARGET = 512, 64  # tokens, as llmkit's summaries have them
SHAPE = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4, "dropout_rate": 0.0}
PIECES = 4000
SPECIAL = ["<pad>", "</s>", "<unk>"]


def rows_of(file: str, number: int) -> list[dict[str, Any]]:
    """The first rows of the file."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:number]]


def make_model(folder: str, rows: Sequence[dict[str, Any]], steps: int) -> None:
    """Write a small T5 that has seen some of the rows."""
    tokenizer = small_tokenizer([row[key] for row in rows for key in ("text", "summary")])
    transformers.set_seed(0)
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **SHAPE)
    model = transformers.T5ForConditionalGeneration(config)
    model.generation_config.max_new_tokens = TARGET
    learning = {"learning_rate": 3e-3, "max_steps": steps, "lr_scheduler_type": "constant"}
    trainer_of(model, tokenizer, folder, **learning, train=features(tokenizer, rows)).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def small_tokenizer(texts: Sequence[str]) -> Any:
    """A unigram tokenizer of these texts with T5's special tokens."""
    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    pieces.train_from_iterator(texts, trainer)
    pieces.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=SOURCE, **names)


def features(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as the transformers examples encode them."""
    return [
        {
            "input_ids": tokenizer(row["text"], truncation=True, max_length=SOURCE).input_ids,
            "labels": tokenizer(row["summary"], truncation=True, max_length=TARGET).input_ids,
        }
        for row in rows
    ]


def trainer_of(model: Any, tokenizer: Any, folder: str, train: Any = None, **more: Any) -> transformers.Seq2SeqTrainer:
    """A Seq2SeqTrainer as a copied script builds it."""
    arguments = transformers.Seq2SeqTrainingArguments(
        folder,
        predict_with_generate=True,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        **more,
    )
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, model)
    trainer = transformers.Seq2SeqTrainer(
        model, arguments, train_dataset=train, data_collator=collator, processing_class=tokenizer
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def stock(folder: str, rows: Sequence[dict[str, Any]], scratch: str) -> list[str]:
    """The answers of Seq2SeqTrainer.predict."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokens = trainer_of(model, tokenizer, scratch).predict(features(tokenizer, rows)).predictions
    tokens[tokens < 0] = tokenizer.pad_token_id
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def ours(folder: str, rows: Sequence[dict[str, Any]], _: str) -> list[str]:
    """The answers of llmkit."""
    found = llmkit.predict(folder, [row["text"] for row in rows], task="summarize")
    return [one["answer"].strip() for one in found]


SIDES: dict[str, Callable[[str, Sequence[dict[str, Any]], str], list[str]]] = {"stock": stock, "llmkit": ours}


def one_side(side: str, folder: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the CPU seconds of one side and its answers, as JSON."""
    torch.set_num_threads(2)
    with TemporaryDirectory() as scratch:
        SIDES[side](folder, rows[:2], scratch)  # what is imported and compiled at first use
        start = time.process_time()
        answers = SIDES[side](folder, rows, scratch)
        print(json.dumps({"seconds": time.process_time() - start, "answers": answers}))


def in_turn(words: Sequence[str], side: str, folder: str) -> dict[str, Any]:
    """What one side prints, in a process of its own."""
    command = [sys.executable, __file__, *words, "--side", side, "--model", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print one row a side, the ratio, and how many answers are equal."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("file")
    words.add_argument("--rows", type=int, default=500)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--steps", type=int, default=300, help="of training, 8 rows each")
    words.add_argument("--model", help="a folder that is there")
    words.add_argument("--side", choices=SIDES, help="only this side, in this process")
    given = words.parse_args()
    rows = rows_of(given.file, given.rows)
    if given.side:
        one_side(given.side, given.model, rows)
        return
    with TemporaryDirectory() as made:
        folder = given.model or made
        if not given.model:
            make_model(folder, rows, given.steps)
        spent: dict[str, list[float]] = {side: [] for side in SIDES}
        answers: dict[str, list[str]] = {}
        for turn in range(given.rounds):
            for side, times in spent.items():
                found = in_turn([given.file, "--rows", str(given.rows)], side, folder)
                times.append(found["seconds"])
                answers[side] = found["answers"]
                print(f"{turn + 1} {side}: {times[-1]:.2f}", file=sys.stderr, flush=True)
    print("| side | CPU s, median | best, worst round |\n|---|---|---|")
    for side, times in spent.items():
        print(f"| {side} | {statistics.median(times):.2f} | {min(times):.2f}, {max(times):.2f} |")
    cost = {side: statistics.median(times) for side, times in spent.items()}
    same = sum(one == other for one, other in zip(answers["stock"], answers["llmkit"], strict=True))
    lengths = [len(answer.split()) for answer in answers["stock"]]
    print(f"\nllmkit takes {cost['stock'] / cost['llmkit']:.2f} times fewer CPU seconds")
    print(f"{same} of {len(rows)} answers are equal; they have {min(lengths)} to {max(lengths)} words")


if __name__ == "__main__":
    main()
