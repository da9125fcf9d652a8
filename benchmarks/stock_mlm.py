"""The baseline of three benchmarks: transformers' run_mlm.py as a library (not a script).

Each line is tokenized with its special tokens; the lines are concatenated and split into chunks of equal length.
Trainer, collator and both maps are built as in that script, in one process and in float32.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

datasets.disable_progress_bars()


def load_stock_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer and disable the padding and truncation of MiniLM's file: run_mlm uses neither."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def load_stock_model(folder: str) -> PreTrainedModel:
    """Load the encoder with a masked-LM head, newly initialized if the folder has none."""
    model: PreTrainedModel = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    return model


def load_lines(file: str, cache: Path) -> Dataset:
    """Load the lines of a text file in the column `text`."""
    return load_dataset("text", data_files={"train": file}, cache_dir=str(cache))["train"]


def make_chunks(texts: Dataset, tokenizer: PreTrainedTokenizerBase, length: int) -> Dataset:
    """Make chunks of `length` tokens; the remainder of each thousand lines is dropped."""

    def tokenize(examples: dict[str, list[str]]) -> Any:
        return tokenizer(examples["text"], return_special_tokens_mask=True)

    def group_texts(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        concatenated = {k: list(chain(*examples[k])) for k in examples}
        total = len(concatenated["input_ids"]) // length * length
        return {k: [t[i : i + length] for i in range(0, total, length)] for k, t in concatenated.items()}

    return texts.map(tokenize, batched=True, remove_columns=["text"]).map(group_texts, batched=True)


def build_stock_trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, folder: str, **flags: Any
) -> Trainer:
    """Build the script's Trainer without progress output; `flags` are TrainingArguments."""
    arguments = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "report_to": "none"} | flags
    collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)
    trainer = Trainer(model, TrainingArguments(folder, **arguments), train_dataset=rows, data_collator=collator)
    trainer.remove_callback(PrinterCallback)
    return trainer
