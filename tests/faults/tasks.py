"""What is broken and mended: a small run of each task, a line each. All of them save and score every other step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmkit.testing import make_articles, make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines

KEYS = [
    "train.max_steps=10", "train.logging_steps=1", "train.save_strategy=steps", "train.save_steps=2",
    "train.eval_strategy=steps", "train.eval_steps=2", "train.save_total_limit=3", "eval.baselines=[]",
]  # fmt: skip
SMALL = "train.per_device_train_batch_size=8"  # four steps an epoch: a run is killed in the middle of one too


@dataclass(frozen=True)
class Task:
    """The command's words, and what writes its data and its model into the folder it is called in."""

    words: list[str]
    make: Callable[[], object]


def texts_and_model() -> None:
    write_jsonl("data.jsonl", make_reviews(40))
    make_tiny_model("model")


def articles_and_model() -> None:
    write_jsonl("data.jsonl", make_articles(40))
    make_tiny_model("model", "t5")


def corpus_and_model() -> None:
    write_lines("data.txt", make_sentences(60))
    make_tiny_model("model", auto_class="AutoModelForMaskedLM", texts=make_sentences())


TASKS = {
    "classify": Task(["finetune-classify", "--train", "data.jsonl", SMALL], texts_and_model),
    "mlm": Task(["pretrain-mlm", "--train", "data.txt", SMALL, "model.max_length=32"], corpus_and_model),
    "sentiment": Task(["finetune-sentiment", "--train", "data.jsonl", SMALL], texts_and_model),
    "summarize": Task(["finetune-summarize", "--train", "data.jsonl", SMALL, "model.max_length=64",
                       "summarize.max_target_length=8", "eval.metrics=[rougeL]"], articles_and_model),
    "lora": Task(["finetune-classify", "--train", "data.jsonl", SMALL, "--lora", "lora.r=4"], texts_and_model),
}  # fmt: skip
