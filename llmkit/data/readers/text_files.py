"""Plain text: one text a line, or one text a file in class folders."""

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
    """One row of `text` a line that is not blank, and the `label` of them all when there is one."""
    found = [(number, line) for number, line in _lines(text) if line.strip()]
    if not found:
        raise DataError(f"{name}: no text in it" if text else f"{name}: an empty file", "write one text a line")
    columns = {"text": [line for _, line in found]} | ({} if label is None else {"label": [label] * len(found)})
    return build_rows(columns, name, (number for number, _ in found))


def list_class_files(inside: Sequence[Path]) -> list[Path]:
    """The .txt files of the folders among `inside`, sorted; hidden files and folders, and all others, are left out."""
    classes = sorted(path for path in inside if path.is_dir() and not path.name.startswith((".", "__")))
    return [
        path
        for label in classes
        for path in sorted(label.iterdir())
        if path.suffix.lower() == ".txt" and path.is_file() and not path.name.startswith(".")
    ]


def read_class_folders(folder: Path, files: Sequence[Path], name: str, encoding: str) -> Rows:
    """One row a file: `text` is all of it, `title` its first line, `body` the rest without the blank line after the
    title, `label` the folder's name and `path` the file's path in `folder`.
    """
    shown, texts, faults = [], [], []
    for path in files:
        shown.append(f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}")
        try:
            text, bad = try_decode_text(path.read_bytes(), shown[-1], encoding)
        except OSError as e:
            raise MissingInputError(f"{shown[-1]}: cannot be read: {e.strerror}", "check its permissions") from e
        texts.append(text)
        faults += [(path, fault) for fault in bad]
    _refuse(faults, texts, encoding)
    parted = [text.partition("\n") for text in texts]
    columns = {
        "title": [title.removesuffix("\r") if end else title for title, end, _ in parted],
        "body": [FIRST_BLANK_LINE.sub("", rest) for _, _, rest in parted],
        "text": texts,
        "label": [path.parent.name for path in files],
        "path": [path.relative_to(folder).as_posix() for path in files],
    }
    rows = build_rows(columns, name, [1] * len(shown))
    return replace(rows, files=tuple(shown), file_index=np.arange(len(shown), dtype=np.int64))


def _refuse(faults: Sequence[tuple[Path, RowError]], texts: Sequence[str], encoding: str) -> None:
    """Raise DataError for the faults; where other files hold UTF-8, the mend must not misread those."""
    others = sum(not text.isascii() for text in texts)
    mixed = encoding == "utf-8" and others * MIXED_ENCODING_RATIO > len(faults)
    raise_errors(
        [
            fault._replace(fix=suggest_encoding(detect_encoding(path.read_bytes()), encoding, mixed=True))
            if mixed and fault.fix.startswith(GUESS_PREFIX)
            else fault
            for path, fault in faults
        ]
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r") if number < len(lines) else line
