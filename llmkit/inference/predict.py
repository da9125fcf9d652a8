"""Answers to texts, in input order, with the input columns kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from llmkit import console
from llmkit.data.columns import guess, need
from llmkit.data.faults import counted
from llmkit.data.prepare import options
from llmkit.data.read import read
from llmkit.data.rows import Rows, build, parsed
from llmkit.errors import DataError, UsageError
from llmkit.inference.saved import Saved, checked_use, open_saved
from llmkit.tasks.base import Answer

BOTH = ("texts and data together", "give one of them")
AT_ONCE = 4096  # rows that are sorted by length together; answers flow out after so many
DIGITS = 7  # of a probability in JSON: fp32 has no more
TAKEN = ("answer", "probabilities", "reference")


def predict(
    model: str,
    texts: Sequence[str] | str | None = None,
    *,
    data: Any = None,
    text: str | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
    task: str | None = None,
    keys: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """One record a text or row: the input columns, `answer`, and `probabilities` by label.

    `model` is a run folder, a Hugging Face folder or a Hub id; `data` a file or anything else that a recipe's
    data.train may name, `text` its column, `keys` more of how it is read ("data.encoding=cp1252"). An input column
    that is called like a key of the answer comes back as `input.NAME`. Numbers are Python's: `json_line` alone keeps
    a spelling such as 1.10 or 1e999.
    """
    checked_use(batch_size, precision)
    if (texts is None) == (data is None):
        raise UsageError(*(("nothing to answer", "give texts or data") if data is None else BOTH))
    saved = open_saved(os.fspath(model), task, keys)
    if texts is None:
        rows = from_file(saved, data, text)
    else:
        rows = from_texts([texts] if isinstance(texts, str) else texts)
    return [parsed(one) for one in records(saved, rows, batch_size, precision)]


def from_texts(texts: Sequence[str], name: str = "texts") -> Rows:
    """The texts as rows with one column, `text`."""
    return build({"text": list(texts)}, name, range(1, len(texts) + 1), by_row=True).rename({"text": "text"})


def from_file(saved: Saved, data: Any, text: str | None = None) -> Rows:
    """The rows of a file with the text column found: as named, as in the run's recipe, or guessed."""
    return read_inputs(saved, data, {} if text is None else {first_word(saved): text}, with_target=False)


def read_inputs(saved: Saved, data: Any, given: dict[str, str], *, with_target: bool) -> Rows:
    """The rows of `data` with their columns mapped; the recipe's mapping holds where the file has those columns."""
    task, section = saved.task, saved.data
    rows = read(data, split_role="test", options=options(section))
    words = {word: what for word, what in task.columns.items() if with_target or word != task.target}
    recorded = {word: column for word, column in section.columns.items() if word in words and column in rows.columns}
    mapping, guessed = guess(rows, words, recorded | given)
    mapped, left_out = need(rows, mapping, on_empty=section.on_empty)
    for text in guessed + left_out:
        console.note(text)
    return mapped


def first_word(saved: Saved) -> str:
    """The word of the column that the model reads."""
    return next(iter(saved.task.columns))


def records(
    saved: Saved, rows: Rows, batch_size: int, precision: str, advance: Callable[[int], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """One record a row, in order; a few thousand rows at a time. Input values are as `Rows.records` gives them."""
    from llmkit.inference.answers import answer

    for start in range(0, len(rows), AT_ONCE):
        part = rows.take(np.arange(start, min(start + AT_ONCE, len(rows))))
        features = saved.task.encode(part, saved.tokenizer, saved.max_length).features
        answers = answer(saved.task, saved.model, saved.tokenizer, features, batch_size, precision, advance)
        for row, one in zip(part.records(), answers, strict=True):
            yield record(row, one, rows.columns)


def record(row: dict[str, Any], answer: Answer, columns: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A row's input columns with what the model says of it. None is lost: one that collides becomes `input.NAME`, with
    as many `input.` as make it a name of its own. `columns`: all of the file's, so that it has one name in every row.
    """
    said = answer.as_dict() | more
    if answer.probabilities is not None:
        said["probabilities"] = {label: round(p, DIGITS) for label, p in answer.probabilities.items()}
    names = own_names({**dict.fromkeys(columns), **row}, {*TAKEN, *said})
    return {names.get(key, key): value for key, value in row.items()} | said


def own_names(columns: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """A free name for each of `columns` whose own is taken."""
    used, names = {*columns, *taken}, {}
    for column in columns:
        name = column
        while column in taken and name in used:
            name = f"input.{name}"
        if name != column:
            names[column] = name
            used.add(name)
    return names


def from_lines(stream: BinaryIO) -> Iterator[Rows]:
    """The lines of a UTF-8 stream as rows, a few thousand at a time; blank lines are no texts.

    Raises DataError, naming the line, for what is not UTF-8.
    """
    numbered, blank = enumerate(stream, start=1), 0
    while part := list(islice(numbered, AT_ONCE)):
        lines = [(number, text) for number, raw in part if (text := decoded(raw, number)).strip()]
        blank += len(part) - len(lines)
        if lines:
            numbers, texts = zip(*lines, strict=True)
            yield build({"text": list(texts)}, "stdin", numbers).rename({"text": "text"})
    if blank:
        console.note(f"stdin: {counted(blank, 'blank line')} left out, without an answer")


def decoded(raw: bytes, line: int) -> str:
    """One line of stdin without its line end."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8").removesuffix("\r\n").removesuffix("\n")
    except UnicodeDecodeError as fault:
        byte = f"0x{raw[fault.start]:02x}"
        raise DataError(
            f"stdin:{line}: not UTF-8 (byte {byte})", "convert it, for example with iconv -t utf-8"
        ) from None
