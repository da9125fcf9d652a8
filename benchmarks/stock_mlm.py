"""The masked-LM script that people copy (transformers' run_mlm): the other side of three benchmarks, no script itself.

Each line is tokenized with its special tokens; the lines are joined end to end and cut into chunks of one length.
Trainer, collator and both maps are built as that script builds them, in one process and in float32.
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


def tokenizer_of(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer, without the padding and truncation that MiniLM's file carries: run_mlm asks for neither."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def model_of(folder: str) -> PreTrainedModel:
    """The encoder with a masked-LM head, fresh where the folder has none."""
    model: PreTrainedModel = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    return model


def lines(file: str, cache: Path) -> Dataset:
    """The lines of a text file, in the column `text`."""
    return load_dataset("text", data_files={"train": file}, cache_dir=str(cache))["train"]


def chunks(texts: Dataset, tokenizer: PreTrainedTokenizerBase, length: int) -> Dataset:
    """The chunks of `length` tokens, what is left of each thousand lines dropped."""

    def tokenize(examples: dict[str, list[str]]) -> Any:
        return tokenizer(examples["text"], return_special_tokens_mask=True)

    def group_texts(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        concatenated = {k: list(chain(*examples[k])) for k in examples}
        total = len(concatenated["input_ids"]) // length * length
        return {k: [t[i : i + length] for i in range(0, total, length)] for k, t in concatenated.items()}

    return texts.map(tokenize, batched=True, remove_columns=["text"]).map(group_texts, batched=True)


def trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, folder: str, **flags: Any
) -> Trainer:
    """A Trainer as the script builds it, quiet; `flags` are TrainingArguments."""
    words = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "report_to": "none"} | flags
    collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)
    built = Trainer(model, TrainingArguments(folder, **words), train_dataset=rows, data_collator=collator)
    built.remove_callback(PrinterCallback)
    return built
