"""Answers to texts, in input order, with the input columns kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from llmkit import console
from llmkit.data.columns import guess_columns
from llmkit.data.prepare import build_read_options, flatten_sources, map_and_filter, read_task_rows
from llmkit.data.readers.decode import decode_text as decoded_text
from llmkit.data.readers.decode import decompress_file
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import read_rows
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.data.rows import Rows, build_rows, parse_raw_json
from llmkit.errors import DataError, UsageError
from llmkit.inference.load_saved import SavedModel, check_prediction_options, load_saved_model
from llmkit.tasks.base import Prediction

TEXTS_AND_DATA = ("texts and data together", "give one of them")
PREDICTION_ROWS = 4096  # rows that are sorted by length together; answers flow out after so many
RESERVED_KEYS = ("answer", "probabilities", "reference")


def predict(
    model: str,
    texts: Sequence[str] | Sequence[tuple[str, str]] | str | None = None,
    *,
    data: Any = None,
    text: str | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
    task: str | None = None,
    keys: Sequence[str] = (),
    top: int | None = None,
    base: str | None = None,
) -> list[dict[str, Any]]:
    """One record a text or row: the input columns, `answer`, and `probabilities` by label.

    `model` is a run folder, a Hugging Face folder or a Hub id; `data` a file or anything else that a recipe's
    data.train may name, `text` its column, `keys` more of how it is read ("data.encoding=cp1252"); `top` is how many
    of the likeliest to give; `base` is where an adapter's base is, where it moved.
    An input column that is called like a key of the answer comes back as `input.NAME`.
    Numbers are Python's: `json_line` alone keeps a spelling such as 1.10 or 1e999.
    """
    check_prediction_options(batch_size, precision)
    if (texts is None) == (data is None):
        raise UsageError(*(("nothing to answer", "give texts or data") if data is None else TEXTS_AND_DATA))
    saved = load_saved_model(os.fspath(model), task, keys, base=base)
    if texts is None:
        rows = read_text_rows(saved, data, text)
    else:
        rows = build_text_rows(saved, [texts] if isinstance(texts, str) else texts)
    return [parse_raw_json(one) for one in predict_records(saved, rows, batch_size, precision, top=top)]


def build_text_rows(
    saved: SavedModel, texts: Sequence[str] | Sequence[tuple[str, str]], name: str = "texts", lines: Sequence[int] = ()
) -> Rows:
    """The texts as rows with the column `text`, and `text_pair` where the run answers pairs.

    A pair is a tuple of two texts; plain texts are then taken two by two. Raises UsageError where one is missing,
    DataError where one is empty.
    """
    words = (get_input_column(saved), *(word for word in saved.task.optional if word in saved.data.columns))
    wide: list[Any] = list(texts)
    if len(words) > 1 and all(isinstance(text, str) for text in wide):
        if len(wide) % 2:
            raise UsageError(f"{saved.name} answers pairs, and {name} are {len(wide)}", "give them two by two")
        wide = list(zip(wide[::2], wide[1::2], strict=True))
    rows = [(text,) if isinstance(text, str) else tuple(text) for text in wide]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(words):
            held = pluralize(len(row), "text")
            what = f"{name}: row {number} holds {held}, and {saved.name} answers {' and '.join(words)}"
            raise UsageError(what, "give a text a row, or a tuple of two for a run of pairs")
    columns = {word: [row[i] for row in rows] for i, word in enumerate(words)}
    numbers = lines or range(1, len(rows) + 1)
    found = build_rows(columns, name, numbers, row_numbered=not lines).with_column_mapping(
        {word: word for word in words}
    )
    empty = [(i, word) for i, row in enumerate(rows) for word, text in zip(words, row, strict=True) if not text.strip()]
    raise_errors([RowError(found.location(i), f"'{word}' is empty", "write it, or leave it out") for i, word in empty])
    return found


def read_text_rows(saved: SavedModel, data: Any, text: str | None = None) -> Rows:
    """The rows of a file with the text column found: as named, as in the run's recipe, or guessed."""
    # What is asked is rows with all their columns, also of a model that learned from documents.
    rows = read_rows(data, split_role="test", options=build_read_options(saved.data))
    rows = map_input_columns(saved, rows, {} if text is None else {get_input_column(saved): text}, with_target=False)
    if blank := count_blank_lines(data, saved.data.encoding):
        console.print_message(f"{rows.name}: {pluralize(blank, 'blank line')} left out, without an answer")
    return rows


def count_blank_lines(data: Any, encoding: str) -> int:
    """The number of blank lines in the .txt files among the sources in `data`, where each other line is a text."""
    blank = 0
    for name in flatten_sources(data):
        if (path := resolve_path(name)).is_file():
            raw, ending = decompress_file(path, name)
            lines = decoded_text(raw, name, encoding).removesuffix("\n").split("\n") if ending == ".txt" else []
            blank += sum(not line.strip() for line in lines)
    return blank


def read_input_rows(saved: SavedModel, data: Any, given: dict[str, str], *, with_target: bool) -> Rows:
    """The rows of `data` with their columns mapped; the recipe's mapping holds where the file has those columns."""
    rows = read_task_rows(data, "test", saved.data, saved.task, dict(saved.data.columns) | given)
    return map_input_columns(saved, rows, given, with_target=with_target)


def map_input_columns(saved: SavedModel, rows: Rows, given: dict[str, str], *, with_target: bool) -> Rows:
    """The rows with their columns mapped, as `read_inputs` maps them."""
    task, section = saved.task, saved.data
    words = {word: what for word, what in task.columns.items() if with_target or word != task.target}
    if saved.run is not None:  # the run says whether its rows are pairs
        words = {word: what for word, what in words.items() if word not in task.optional or word in section.columns}
    recorded = {word: column for word, column in section.columns.items() if word in words and column in rows.columns}
    optional = task.optional if saved.run is None else ()
    mapping, guessed = guess_columns(rows, words, recorded | given, optional)
    found, left_out = map_and_filter(rows, mapping, section, task)
    for text in guessed + left_out:
        console.print_message(text)
    return found


def get_input_column(saved: SavedModel) -> str:
    """The word of the column that the model reads."""
    return next(iter(saved.task.columns))


def predict_records(
    saved: SavedModel,
    rows: Rows,
    batch_size: int,
    precision: str,
    advance: Callable[[int], None] = lambda _: None,
    top: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One record a row, in order; a few thousand rows at a time. Input values are as `Rows.records` gives them.

    `top`: how many of the likeliest to give, the likeliest first.
    """
    from llmkit.inference.batched import predict_batches

    saved.task.top_k = top
    for start in range(0, len(rows), PREDICTION_ROWS):
        part = rows.take(np.arange(start, min(start + PREDICTION_ROWS, len(rows))))
        features = saved.task.encode_predict(part, saved.tokenizer, saved.max_length).features
        answers = predict_batches(saved.task, saved.model, saved.tokenizer, features, batch_size, precision, advance)
        for row, one in zip(part.records(), answers, strict=True):
            yield build_record(row, one if top is None else keep_top_k(one, top), rows.columns)


def keep_top_k(answer: Prediction, top: int) -> Prediction:
    """The answer with its `top` likeliest alone, in that order."""
    chances = sorted((answer.probabilities or {}).items(), key=lambda one: -one[1])[:top]
    return replace(answer, probabilities=dict(chances) or None)


def build_record(row: dict[str, Any], answer: Prediction, columns: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A row's input columns with what the model says of it. None is lost: one that collides becomes `input.NAME`, with
    as many `input.` as make it a name of its own. `columns`: all of the file's, so that it has one name in every row.
    """
    said = answer.as_dict() | more
    names = find_free_names({**dict.fromkeys(columns), **row}, {*RESERVED_KEYS, *said})
    return {names.get(key, key): value for key, value in row.items()} | said


def find_free_names(columns: Collection[str], taken: Collection[str]) -> dict[str, str]:
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


def read_line_batches(saved: SavedModel, stream: BinaryIO) -> Iterator[Rows]:
    """The lines of a UTF-8 stream as rows, a few thousand at a time; blank lines are no texts.

    The two texts of a pair are parted by a tab. Raises DataError, naming the line, for what is not UTF-8 or no pair.
    """
    paired = any(word in saved.data.columns for word in saved.task.optional)
    numbered, blank = enumerate(stream, start=1), 0
    while part := list(islice(numbered, PREDICTION_ROWS)):
        lines = [(number, text) for number, raw in part if (text := decode_line(raw, number)).strip()]
        blank += len(part) - len(lines)
        if lines:
            numbers, texts = zip(*lines, strict=True)
            pairs = [split_text_pair(text, number) for number, text in lines] if paired else texts
            yield build_text_rows(saved, pairs, "stdin", numbers)
    if blank:
        console.print_message(f"stdin: {pluralize(blank, 'blank line')} left out, without an answer")


def split_text_pair(line: str, number: int) -> tuple[str, str]:
    """The pair on a line of stdin."""
    first, *rest = line.split("\t")
    if len(rest) != 1 or not first.strip() or not rest[0].strip():
        what = f"stdin:{number}: {pluralize(len(rest) + 1, 'text')}, and the run answers pairs"
        raise DataError(what, "part two texts by a tab")
    return first, rest[0]


def decode_line(raw: bytes, line: int) -> str:
    """One line of stdin without its line end."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8").removesuffix("\r\n").removesuffix("\n")
    except UnicodeDecodeError as fault:
        byte = f"0x{raw[fault.start]:02x}"
        raise DataError(
            f"stdin:{line}: not UTF-8 (byte {byte})", "convert it, for example with iconv -t utf-8"
        ) from None
