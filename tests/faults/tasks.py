"""The runs into which faults are injected: a small run of each task that saves and evaluates every other step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmkit.testing import make_articles, make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines

KEYS = [
    "train.max_steps=10", "train.logging_steps=1", "train.save_strategy=steps", "train.save_steps=2",
    "train.eval_strategy=steps", "train.eval_steps=2", "train.save_total_limit=3", "eval.baselines=[]",
]  # fmt: skip
SMALL = "train.per_device_train_batch_size=8"  # four steps per epoch, so that some kills fall within an epoch


@dataclass(frozen=True)
class Task:
    """The command's arguments, and a function that writes its data and model into the current folder."""

    args: list[str]
    make: Callable[[], object]


def make_texts_and_model() -> None:
    write_jsonl("data.jsonl", make_reviews(40))
    make_tiny_model("model")


def make_articles_and_model() -> None:
    write_jsonl("data.jsonl", make_articles(40))
    make_tiny_model("model", "t5")


def make_corpus_and_model() -> None:
    write_lines("data.txt", make_sentences(60))
    make_tiny_model("model", auto_class="AutoModelForMaskedLM", texts=make_sentences())


TASKS = {
    "classify": Task(["finetune-classify", "--train", "data.jsonl", SMALL], make_texts_and_model),
    "mlm": Task(["pretrain-mlm", "--train", "data.txt", SMALL, "model.max_length=32"], make_corpus_and_model),
    "sentiment": Task(["finetune-sentiment", "--train", "data.jsonl", SMALL], make_texts_and_model),
    "summarize": Task(["finetune-summarize", "--train", "data.jsonl", SMALL, "model.max_length=64",
                       "summarize.max_target_length=8", "eval.metrics=[rougeL]"], make_articles_and_model),
    "lora": Task(["finetune-classify", "--train", "data.jsonl", SMALL, "--lora", "lora.r=4"], make_texts_and_model),
}  # fmt: skip
