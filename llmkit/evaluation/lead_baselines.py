"""Baselines for text generation: predictions copied from the source."""

from __future__ import annotations

from itertools import islice
from statistics import fmean

from llmkit.data.cleaning.filters import WORD_UNIT, split_word_units
from llmkit.data.corpus.sentences import take_first_sentences
from llmkit.data.rows import Rows
from llmkit.tasks.base import Prediction, Task


def predict_lead1(task: Task, train: Rows, rows: Rows) -> list[Prediction]:  # noqa: ARG001 - baselines share one signature
    """The first sentence of the source."""
    return predict_lead(task, rows, 1)


def predict_lead3(task: Task, train: Rows, rows: Rows) -> list[Prediction]:  # noqa: ARG001
    """The first three sentences of the source."""
    return predict_lead(task, rows, 3)


def predict_first_sentence(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """The first sentence of the source, truncated to the mean length of the training references, like a title."""
    lengths = [fmean(len(split_word_units(text)) for text in row) for row in task.references(train)]
    length = max(1, round(fmean(lengths)))
    return [Prediction(truncate_words(one.value, length)) for one in predict_lead(task, rows, 1)]


def predict_copy(task: Task, train: Rows, rows: Rows) -> list[Prediction]:  # noqa: ARG001
    """The source itself."""
    return [Prediction(text) for text in get_source_texts(task, rows)]


def predict_lead(task: Task, rows: Rows, number: int) -> list[Prediction]:
    """Return the first `number` sentences of each source."""
    return [Prediction(take_first_sentences(text, number)) for text in get_source_texts(task, rows)]


def get_source_texts(task: Task, rows: Rows) -> list[str]:
    """Return the input text of each row."""
    return list(rows.texts(next(iter(task.columns))))


def truncate_words(text: str, length: int) -> str:
    """Truncate `text` after `length` words; in scripts without spaces a character is a word."""
    ends = [match.end() for match in islice(WORD_UNIT.finditer(text), length + 1)]
    return text if len(ends) <= length else text[: ends[length - 1]]
