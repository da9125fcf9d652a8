"""Prediction for texts, files and stdin: one record per row, in input order, with the input columns."""

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
from llmkit.data.readers.decode import decode_text, decompress_file
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import read_rows
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.data.rows import Rows, build_rows, parse_raw_json
from llmkit.errors import DataError, UsageError
from llmkit.inference.load_saved import SavedModel, check_prediction_options, load_saved_model
from llmkit.tasks.base import Prediction

TEXTS_AND_DATA = ("texts and data together", "give one of them")
PREDICTION_ROWS = 4096  # rows that are sorted by length and predicted together
RESERVED_KEYS = ("prediction", "probabilities", "reference")


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
    """Predict texts or rows; each record has the input columns, `prediction`, and `probabilities` by label.

    `model` is a run folder, a Hugging Face folder or a Hub id; `data` is a file or anything else that a recipe's
    data.train may name, `text` its text column, and `keys` are further data keys ("data.encoding=cp1252"); `top` is
    the number of most probable outputs to return; `base` is the path of an adapter's base model, if it has moved.
    An input column with the name of an output key is returned as `input.NAME`.
    Numbers are Python numbers; only the command line keeps a spelling such as 1.10 or 1e999.
    """
    check_prediction_options(batch_size, precision)
    if (texts is None) == (data is None):
        raise UsageError(*(("nothing to predict", "give texts or data") if data is None else TEXTS_AND_DATA))
    saved = load_saved_model(os.fspath(model), task, keys, base=base)
    if texts is None:
        rows = read_text_rows(saved, data, text)
    else:
        rows = build_text_rows(saved, [texts] if isinstance(texts, str) else texts)
    return [parse_raw_json(one) for one in predict_records(saved, rows, batch_size, precision, top=top)]


def build_text_rows(
    saved: SavedModel, texts: Sequence[str] | Sequence[tuple[str, str]], name: str = "texts", lines: Sequence[int] = ()
) -> Rows:
    """Build rows of texts with the column `text`, and `text_pair` for a model of text pairs.

    A pair is a tuple of two texts; plain texts are then paired two by two. Raises UsageError if one is missing,
    DataError if one is empty.
    """
    columns = (get_input_column(saved), *(column for column in saved.task.optional if column in saved.data.columns))
    given: list[Any] = list(texts)
    if len(columns) > 1 and all(isinstance(text, str) for text in given):
        if len(given) % 2:
            raise UsageError(f"{saved.name} needs pairs, and {name} are {len(given)}", "give them two by two")
        given = list(zip(given[::2], given[1::2], strict=True))
    rows = [(text,) if isinstance(text, str) else tuple(text) for text in given]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            count = pluralize(len(row), "text")
            what = f"{name}: row {number} has {count}, and {saved.name} needs {' and '.join(columns)}"
            raise UsageError(what, "give one text per row, or a tuple of two for a model of pairs")
    cells = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
    numbers = lines or range(1, len(rows) + 1)
    built = build_rows(cells, name, numbers, row_numbered=not lines)
    built = built.with_column_mapping({column: column for column in columns})
    empty = [(i, column) for i, row in enumerate(rows) for column, text in zip(columns, row, strict=True)
             if not text.strip()]  # fmt: skip
    fix = "write it, or leave it out"
    raise_errors([RowError(built.location(i), f"'{column}' is empty", fix) for i, column in empty])
    return built


def read_text_rows(saved: SavedModel, data: Any, text: str | None = None) -> Rows:
    """Read the rows of a file; the text column is `text`, or as in the run's recipe, or guessed."""
    # Rows with all their columns are needed, even for a model that was trained on documents.
    rows = read_rows(data, split_role="test", options=build_read_options(saved.data))
    rows = map_input_columns(saved, rows, {} if text is None else {get_input_column(saved): text}, with_target=False)
    if blank := count_blank_lines(data, saved.data.encoding):
        console.print_message(f"{rows.name}: {pluralize(blank, 'blank line')} left out, without a prediction")
    return rows


def count_blank_lines(data: Any, encoding: str) -> int:
    """Count the blank lines of the .txt files among the sources in `data`, which have one text per line."""
    blank = 0
    for name in flatten_sources(data):
        if (path := resolve_path(name)).is_file():
            raw, ending = decompress_file(path, name)
            lines = decode_text(raw, name, encoding).removesuffix("\n").split("\n") if ending == ".txt" else []
            blank += sum(not line.strip() for line in lines)
    return blank


def read_input_rows(saved: SavedModel, data: Any, given: dict[str, str], *, with_target: bool) -> Rows:
    """Read the rows of `data` and map their columns; the recipe's mapping is used for columns that the file has."""
    rows = read_task_rows(data, "test", saved.data, saved.task, dict(saved.data.columns) | given)
    return map_input_columns(saved, rows, given, with_target=with_target)


def map_input_columns(saved: SavedModel, rows: Rows, given: dict[str, str], *, with_target: bool) -> Rows:
    """Map the columns of rows by `given`, the recipe or a guess; print notes on guesses and on rows left out."""
    task, section = saved.task, saved.data
    needed = {word: what for word, what in task.columns.items() if with_target or word != task.target}
    if saved.run is not None:  # the run's recipe decides whether rows are pairs
        needed = {word: what for word, what in needed.items() if word not in task.optional or word in section.columns}
    recorded = {word: column for word, column in section.columns.items() if word in needed and column in rows.columns}
    optional = task.optional if saved.run is None else ()
    mapping, guessed = guess_columns(rows, needed, recorded | given, optional)
    mapped, left_out = map_and_filter(rows, mapping, section, task)
    for note in guessed + left_out:
        console.print_message(note)
    return mapped


def get_input_column(saved: SavedModel) -> str:
    """Return the task's column that is the model's input."""
    return next(iter(saved.task.columns))


def predict_records(
    saved: SavedModel,
    rows: Rows,
    batch_size: int,
    precision: str,
    advance: Callable[[int], None] = lambda _: None,
    top: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one record per row, in order, PREDICTION_ROWS rows at a time. Input values are those of `Rows.records`.

    `top` is the number of most probable outputs to return, the most probable first.
    """
    from llmkit.inference.batched import predict_batches

    saved.task.top_k = top
    for start in range(0, len(rows), PREDICTION_ROWS):
        part = rows.take(np.arange(start, min(start + PREDICTION_ROWS, len(rows))))
        features = saved.task.encode_predict(part, saved.tokenizer, saved.max_length).features
        predictions = predict_batches(
            saved.task, saved.model, saved.tokenizer, features, batch_size, precision, advance
        )
        for row, one in zip(part.records(), predictions, strict=True):
            yield build_record(row, one if top is None else keep_top_k(one, top), rows.columns)


def keep_top_k(prediction: Prediction, top: int) -> Prediction:
    """Keep the `top` highest probabilities of a prediction, in descending order."""
    highest = sorted((prediction.probabilities or {}).items(), key=lambda one: -one[1])[:top]
    return replace(prediction, probabilities=dict(highest) or None)


def build_record(
    row: dict[str, Any], prediction: Prediction, columns: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Join a row's input columns and its prediction. An input column with a reserved name becomes `input.NAME`.

    `input.` is repeated until the name is free. `columns` are all columns of the file, so that a column gets the same
    name in every row.
    """
    output = prediction.as_dict() | more
    names = find_free_names({**dict.fromkeys(columns), **row}, {*RESERVED_KEYS, *output})
    return {names.get(key, key): value for key, value in row.items()} | output


def find_free_names(columns: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """Find a free name for each of `columns` whose own is taken."""
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
    """Read the lines of a UTF-8 stream as rows, PREDICTION_ROWS at a time, without blank lines.

    The two texts of a pair are separated by a tab. Raises DataError with the line for invalid UTF-8, or if a line is
    not a pair.
    """
    paired = any(word in saved.data.columns for word in saved.task.optional)
    numbered, blank = enumerate(stream, start=1), 0
    while part := list(islice(numbered, PREDICTION_ROWS)):
        lines = [(number, text) for number, raw in part if (text := decode_line(raw, number)).strip()]
        blank += len(part) - len(lines)
        if lines:
            numbers, texts = zip(*lines, strict=True)
            inputs = [split_text_pair(text, number) for number, text in lines] if paired else texts
            yield build_text_rows(saved, inputs, "stdin", numbers)
    if blank:
        console.print_message(f"stdin: {pluralize(blank, 'blank line')} left out, without a prediction")


def split_text_pair(line: str, number: int) -> tuple[str, str]:
    """Split a line of stdin into two texts at its tab. Raises DataError if it is not a pair."""
    first, *rest = line.split("\t")
    if len(rest) != 1 or not first.strip() or not rest[0].strip():
        what = f"stdin:{number}: {pluralize(len(rest) + 1, 'text')}, and the model needs pairs"
        raise DataError(what, "separate two texts by a tab")
    return first, rest[0]


def decode_line(raw: bytes, line: int) -> str:
    """Decode one line of stdin, without its line end. Raises DataError if it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8").removesuffix("\r\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        byte = f"0x{raw[error.start]:02x}"
        raise DataError(
            f"stdin:{line}: not UTF-8 (byte {byte})", "convert it, for example with iconv -t utf-8"
        ) from None
