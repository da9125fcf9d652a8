"""Answers to texts, in input order, with the input columns kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from llmkit import console
from llmkit.data.columns import guess, need
from llmkit.data.faults import counted
from llmkit.data.prepare import options
from llmkit.data.read import read
from llmkit.data.rows import Rows, build
from llmkit.errors import DataError
from llmkit.inference.saved import Saved, open_saved
from llmkit.tasks.base import Answer

AT_ONCE = 4096  # rows that are sorted by length together; answers flow out after so many
DIGITS = 7  # of a probability in JSON: fp32 has no more


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
    that is called like a key of the answer comes back as `input.NAME`.
    """
    saved = open_saved(model, task, keys)
    rows = (
        from_texts([texts] if isinstance(texts, str) else texts) if texts is not None else from_file(saved, data, text)
    )
    return list(records(saved, rows, batch_size, precision))


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
    """One record a row, in order; a few thousand rows at a time."""
    from llmkit.inference.answers import answer

    for start in range(0, len(rows), AT_ONCE):
        part = rows.take(np.arange(start, min(start + AT_ONCE, len(rows))))
        features = saved.task.encode(part, saved.tokenizer, saved.max_length).features
        answers = answer(saved.task, saved.model, saved.tokenizer, features, batch_size, precision, advance)
        for row, one in zip(part.records(), answers, strict=True):
            yield record(row, one)


def record(row: dict[str, Any], answer: Answer, **more: Any) -> dict[str, Any]:
    """A row's input columns with what the model says of it; input columns that collide become `input.NAME`."""
    said = answer.as_dict() | more
    if answer.probabilities is not None:
        said["probabilities"] = {label: round(p, DIGITS) for label, p in answer.probabilities.items()}
    taken = {"answer", "probabilities", "reference"}
    return {f"input.{key}" if key in taken else key: value for key, value in row.items()} | said


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
        return raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as fault:
        byte = f"0x{raw[fault.start]:02x}"
        raise DataError(
            f"stdin:{line}: not UTF-8 (byte {byte})", "convert it, for example with iconv -t utf-8"
        ) from None
