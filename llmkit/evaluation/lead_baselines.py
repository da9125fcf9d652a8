"""Baselines of generated text: answers that are taken from the source as it stands."""

from __future__ import annotations

from itertools import islice
from statistics import fmean

from llmkit.data.cleaning.filters import UNIT, units
from llmkit.data.corpus.sentences import first
from llmkit.data.rows import Rows
from llmkit.tasks.base import Answer, Task


def lead1(task: Task, train: Rows, rows: Rows) -> list[Answer]:  # noqa: ARG001 - baselines share one signature
    """The first sentence of the source."""
    return lead(task, rows, 1)


def lead3(task: Task, train: Rows, rows: Rows) -> list[Answer]:  # noqa: ARG001
    """The first three sentences of the source."""
    return lead(task, rows, 3)


def first_sentence(task: Task, train: Rows, rows: Rows) -> list[Answer]:
    """The first sentence of the source, like a title: cut to the mean length of the training references."""
    lengths = [fmean(len(units(text)) for text in row) for row in task.references(train)]
    length = max(1, round(fmean(lengths)))
    return [Answer(begun(one.answer, length)) for one in lead(task, rows, 1)]


def copy(task: Task, train: Rows, rows: Rows) -> list[Answer]:  # noqa: ARG001
    """The source itself."""
    return [Answer(text) for text in sources(task, rows)]


def lead(task: Task, rows: Rows, number: int) -> list[Answer]:
    """The first sentences of each source."""
    return [Answer(first(text, number)) for text in sources(task, rows)]


def sources(task: Task, rows: Rows) -> list[str]:
    """What the model reads of each row."""
    return list(rows.texts(next(iter(task.columns))))


def begun(text: str, length: int) -> str:
    """`text` up to the end of so many words; in scripts without spaces a character is a word."""
    ends = [found.end() for found in islice(UNIT.finditer(text), length + 1)]
    return text if len(ends) <= length else text[: ends[length - 1]]
