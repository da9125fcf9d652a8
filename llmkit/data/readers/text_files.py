"""Reader of plain text: one row for each line of a file, or one row for each file of class folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmkit.data.readers.decode import GUESS_PREFIX, MIXED_ENCODING_RATIO, suggest_encoding, try_decode_text
from llmkit.data.readers.detect_encoding import detect_encoding
from llmkit.data.row_errors import RowError, raise_errors
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, MissingInputError

FIRST_BLANK_LINE = re.compile(r"\A\r?\n")


def read_text_lines(text: str, name: str, label: str | None = None) -> Rows:
    """Read one row for each line that is not blank, with columns `text` and, if `label` is given, `label`."""
    lines = [(number, line) for number, line in _split_lines(text) if line.strip()]
    if not lines:
        raise DataError(f"{name}: no text in it" if text else f"{name}: an empty file", "write one text per line")
    columns = {"text": [line for _, line in lines]} | ({} if label is None else {"label": [label] * len(lines)})
    return build_rows(columns, name, (number for number, _ in lines))


def list_class_files(inside: Sequence[Path]) -> list[Path]:
    """List the .txt files of the folders among `inside`, sorted; hidden files and folders are skipped."""
    classes = sorted(path for path in inside if path.is_dir() and not path.name.startswith((".", "__")))
    return [
        path
        for label in classes
        for path in sorted(label.iterdir())
        if path.suffix.lower() == ".txt" and path.is_file() and not path.name.startswith(".")
    ]


def read_class_folders(folder: Path, files: Sequence[Path], name: str, encoding: str) -> Rows:
    """Read one row for each file.

    Columns: `text` is the whole file, `title` its first line, `body` the rest without a blank line after the title,
    `label` the name of the class folder, and `path` the file's path in `folder`.
    """
    names, texts, errors = [], [], []
    for path in files:
        names.append(f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}")
        try:
            text, file_errors = try_decode_text(path.read_bytes(), names[-1], encoding)
        except OSError as e:
            raise MissingInputError(f"{names[-1]}: cannot be read: {e.strerror}", "check its permissions") from e
        texts.append(text)
        errors += [(path, error) for error in file_errors]
    _raise_decode_errors(errors, texts, encoding)
    parts = [text.partition("\n") for text in texts]
    columns = {
        "title": [title.removesuffix("\r") if end else title for title, end, _ in parts],
        "body": [FIRST_BLANK_LINE.sub("", rest) for _, _, rest in parts],
        "text": texts,
        "label": [path.parent.name for path in files],
        "path": [path.relative_to(folder).as_posix() for path in files],
    }
    rows = build_rows(columns, name, [1] * len(names))
    return replace(rows, files=tuple(names), file_index=np.arange(len(names), dtype=np.int64))


def _raise_decode_errors(errors: Sequence[tuple[Path, RowError]], texts: Sequence[str], encoding: str) -> None:
    """Raise DataError for the errors; if other files are UTF-8, the suggested encoding must also decode those."""
    others = sum(not text.isascii() for text in texts)
    mixed = encoding == "utf-8" and others * MIXED_ENCODING_RATIO > len(errors)
    raise_errors(
        [
            error._replace(fix=suggest_encoding(detect_encoding(path.read_bytes()), encoding, mixed=True))
            if mixed and error.fix.startswith(GUESS_PREFIX)
            else error
            for path, error in errors
        ]
    )


def _split_lines(text: str) -> Iterator[tuple[int, str]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r") if number < len(lines) else line
