"""Reads the documents of a corpus one at a time, so that a corpus larger than memory can be used.

A document is a line, a block of lines between blank ones, or a file; in tables and JSON lines it is a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from llmkit.data.columns import COLUMN_SYNONYMS
from llmkit.data.readers import hub
from llmkit.data.readers.csv_tsv import read_delimited
from llmkit.data.readers.decode import ReadOptions, decompress_file, try_decode_text
from llmkit.data.readers.jsonl import parse_json_lines, read_json
from llmkit.data.readers.lines import GZIP_SUFFIX, CorpusFile, read_numbered_lines
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import DELIMITED_FORMATS, RowSource, can_be_hub_id, make_missing_error
from llmkit.data.row_errors import RowError, join_names, raise_errors
from llmkit.data.rows import RawJson, Rows
from llmkit.errors import DataError, suggest_spelling

DocumentUnit = Literal["line", "block", "file"]
TextColumns = str | Sequence[str] | None
TEXT_SUFFIXES = (".txt", ".text", ".md", ".html", ".htm")  # read as lines of text, whatever a line contains
HTML_SUFFIXES = (".html", ".htm")  # always one document per file, because tags span lines
TABLE_SUFFIXES = (*DELIMITED_FORMATS, ".jsonl", ".ndjson", ".json", ".parquet")
LINE_NUMBERED_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab")  # tables whose rows have line numbers
COLLECT_BATCH = 10_000  # documents that are in memory twice while they are copied into an Arrow array


class Document(NamedTuple):
    """One text of a corpus and its origin: the file as the user named it and the 1-based line or row it begins at."""

    text: str
    name: str
    number: int


def read_documents(
    source: RowSource,
    *,
    unit: DocumentUnit = "line",
    column: TextColumns = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008
    split_role: str = "train",
) -> Iterator[Document]:
    """Yield the non-blank documents of `source` in the order of file names and lines.

    source: a text file (also .gz), a table (.jsonl, .parquet, .csv ...), a folder of such files at any depth, a
    folder of `save_to_disk`, `pkg://PACKAGE/PATH`, a Hub id, or a list of these.
    unit: the unit of text files that makes a document.
    column: the text column of tables (default: the one with a usual name for texts); with several columns each cell is
    a document.
    Text files, JSON lines and Parquet are read incrementally. Raises DataError and MissingInputError like `read_rows`,
    but only when the iterator reaches the mistake.
    """
    columns = [column] if isinstance(column, str) else list(dict.fromkeys(column or ()))
    for one in list_corpus_sources(source):
        name, path = str(one), resolve_path(str(one))
        if not path.exists() and can_be_hub_id(name):
            yield from read_row_documents(hub.read_hub_dataset(name, split_role), columns, options)
        elif path.is_dir() and hub.SAVED_DATASET_FILES.intersection(inside.name for inside in path.iterdir()):
            yield from read_row_documents(hub.read_saved_dataset(path, name, split_role), columns, options)
        else:
            for file in expand_path(name, path):
                yield from read_file_documents(file, unit, columns, options)


def collect_documents(documents: Iterable[Document], column: str, name: str) -> Rows:
    """Collect the documents in memory as rows of one column.

    Raises DataError, with `name` as the source, if there are no documents.
    """
    import pyarrow as pa

    chunks, numbers, files = [], array("q"), array("q")
    names: dict[str, int] = {}
    remaining = iter(documents)
    while batch := list(islice(remaining, COLLECT_BATCH)):
        chunks.append(pa.array([document.text for document in batch], pa.large_string()))
        numbers.extend(document.number for document in batch)
        files.extend(names.setdefault(document.name, len(names)) for document in batch)
    if not chunks:
        raise DataError(f"{name}: no text in it", "name a file with texts")
    lines, file_index = (np.frombuffer(values, dtype=np.int64) for values in (numbers, files))
    row_numbered = frozenset(
        file
        for file in names
        if get_format_suffix(Path(file)) in (*TABLE_SUFFIXES, "") and not file.endswith(LINE_NUMBERED_SUFFIXES)
    )
    table = pa.table({column: pa.chunked_array(chunks)})
    return Rows(table, {column: "text"}, tuple(names), file_index, lines, row_numbered)


def list_corpus_sources(source: RowSource) -> Sequence[str | Path]:
    """Flatten nested lists of sources. Raises DataError for a mapping, because its labels would be lost."""
    if isinstance(source, Mapping):
        raise DataError("a corpus cannot be a mapping of label to file", "write a list of files")
    if isinstance(source, (str, Path)):
        source = [source]
    sources = [leaf for one in source for leaf in ([one] if isinstance(one, (str, Path)) else list_corpus_sources(one))]
    if not sources or "" in map(str, sources):
        raise DataError("no data source is given", "name a file")
    return sources


def expand_path(name: str, path: Path) -> list[CorpusFile]:
    """List the files of a path: the file itself, or all readable files of the folder at any depth, sorted."""
    if not path.is_dir():
        if not path.is_file():
            raise make_missing_error(name, path)
        if get_format_suffix(path) not in (*TEXT_SUFFIXES, *TABLE_SUFFIXES) and path.suffix != ".zip":
            known = f"{' '.join((*TEXT_SUFFIXES, *TABLE_SUFFIXES))}, also as .gz"
            raise DataError(f"{name}: the ending '{get_format_suffix(path)}' names no known format", f"known: {known}")
        return [CorpusFile(name, path)]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden_path(file.relative_to(path)))
    files = [file for file in files if not is_cleaning_report(file)]
    readable = [file for file in files if get_format_suffix(file) in (*TEXT_SUFFIXES, *TABLE_SUFFIXES)]
    if not readable:
        content = f"it holds {join_names([file.relative_to(path).as_posix() for file in files])}" if files else "empty"
        known = f"known: {' '.join((*TEXT_SUFFIXES, *TABLE_SUFFIXES))}"
        raise DataError(f"{name}: a folder without a text in it: {content}", known)
    return [CorpusFile(f"{name.rstrip('/')}/{file.relative_to(path).as_posix()}", file) for file in readable]


def is_hidden_path(path: Path) -> bool:
    """Return whether the file or a folder above it is hidden."""
    return any(part.startswith((".", "__")) for part in path.parts)


def is_cleaning_report(path: Path) -> bool:
    """Return whether the file is a report of `data clean` on the texts of the same folder."""
    if path.name != "report.json":
        return False
    with path.open("rb") as file:
        return b'"made_by": "llmkit ' in file.read(40)


def get_format_suffix(path: Path) -> str:
    """Return the suffix that names the file format: the last one, or the one before .gz."""
    last = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if last == GZIP_SUFFIX else last


def read_file_documents(
    file: CorpusFile, unit: DocumentUnit, columns: Sequence[str], options: ReadOptions
) -> Iterator[Document]:
    """Yield the documents of one file."""
    suffix = get_format_suffix(file.path)
    if suffix in TEXT_SUFFIXES:
        lines = read_numbered_lines(file, options.encoding)
        yield from read_line_documents(lines, file.name, "file" if suffix in HTML_SUFFIXES else unit)
    elif suffix in (".jsonl", ".ndjson"):
        yield from read_json_documents(file, columns, options)
    elif suffix == ".parquet":
        yield from read_parquet_documents(file, columns, options)
    else:  # small formats, or formats that cannot be read incrementally
        data, suffix = decompress_file(file.path, file.name)
        text, errors = try_decode_text(data, file.name, options.encoding)
        raise_errors(errors)
        if suffix in DELIMITED_FORMATS:
            rows = read_delimited(text, file.name, *DELIMITED_FORMATS[suffix], options)
            yield from read_row_documents(rows, columns, options)
        elif suffix == ".json":
            yield from read_row_documents(read_json(text, file.name, array=True), columns, options)
        else:
            yield from read_line_documents(enumerate(text.split("\n"), start=1), file.name, unit)


def read_line_documents(lines: Iterable[tuple[int, str]], name: str, unit: DocumentUnit) -> Iterator[Document]:
    """Yield the documents of numbered lines."""
    block: list[str] = []
    first = 0
    for number, line in lines:
        blank = not line.strip()
        if unit == "line" and not blank:
            yield Document(line, name, number)
        elif unit != "line" and not (blank and not block):
            if blank and unit == "block":
                yield Document("\n".join(block), name, first)
                block = []
            else:
                first = first if block else number
                block.append(line)
    if any(line.strip() for line in block):
        yield Document("\n".join(block).rstrip("\n"), name, first)


def read_json_documents(file: CorpusFile, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """Yield one document for each object of a JSON lines file and each column."""
    errors: list[RowError] = []
    for number, row in parse_json_lines(read_numbered_lines(file, options.encoding), file.name, errors):
        columns = columns or [find_text_column(list(row), file.name)]
        location = f"{file.name}:{number}"
        for column in columns:
            text = row.get(column)
            if text is None:
                fix = "write it in every row, or name another column with --text"
                raise DataError(f"{location}: no '{column}'", fix)
            if isinstance(text, RawJson):
                fix = "name the column of the texts with --text"
                raise DataError(f"{location}: '{column}' is {text[:40]}, not text", fix)
            if has_text(text, location, column, options):
                yield Document(text, file.name, number)
    raise_errors(errors)


def read_parquet_documents(part: CorpusFile, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """Yield one document for each row of a Parquet file and each column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(part.path) as file:
            columns = columns or [find_text_column(file.schema_arrow.names, part.name)]
            check_columns_exist(columns, file.schema_arrow.names, part.name)
            number = 0
            for batch in file.iter_batches(batch_size=10_000, columns=list(columns)):
                cells = [batch.column(batch.schema.names.index(column)).to_pylist() for column in columns]
                for texts in zip(*cells, strict=True):
                    number += 1
                    location = f"{part.name}: row {number}"
                    for column, text in zip(columns, texts, strict=True):
                        if not isinstance(text, str):
                            fix = "name another column with --text"
                            raise DataError(f"{location}: '{column}' is {str(text)[:40]}, not text", fix)
                        if has_text(text, location, column, options):
                            yield Document(text, part.name, number)
    except (pa.ArrowException, OSError) as error:
        detail = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{part.name}: not a readable Parquet file: {detail}", "write it again") from error


def read_row_documents(rows: Rows, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """Yield one document for each row of a table in memory and each column."""
    columns = columns or [find_text_column(rows.columns, rows.name)]
    check_columns_exist(columns, rows.columns, rows.name)
    for i, cells in enumerate(zip(*map(rows.texts, columns), strict=True)):
        location = rows.location(i)
        for column, text in zip(columns, cells, strict=True):
            if rows.formats[column] != "text" and not text.startswith('"'):
                raise DataError(f"{location}: '{column}' is {text[:40]}, not text", "name another column with --text")
            if has_text(text, location, column, options):
                yield Document(text, rows.files[int(rows.file_index[i])], int(rows.lines[i]))


def has_text(text: str, location: str, column: str, options: ReadOptions) -> bool:
    """Return whether the text is not blank. Raises DataError for a blank one unless `on_empty` skips such rows."""
    if text.strip():
        return True
    if options.on_empty == "error":
        raise DataError(f"{location}: '{column}' is empty", "write it, or leave such rows out with data.on_empty=skip")
    return False


def check_columns_exist(requested: Sequence[str], columns: Sequence[str], name: str) -> None:
    """Raise DataError for a requested column that is missing."""
    for column in requested:
        if column not in columns:
            raise DataError(f"{name}: no column '{column}'", suggest_spelling(column, columns))


def find_text_column(columns: Sequence[str], name: str) -> str:
    """Find the text column: the only column with a usual name for texts, or the only column.

    Raises DataError if it is not unique.
    """
    for synonyms in ({"text"}, *COLUMN_SYNONYMS["text"]):
        matches = [column for column in columns if column.casefold() in synonyms]
        if len(matches) == 1:
            return matches[0]
    if len(columns) == 1:
        return columns[0]
    raise DataError(f"{name}: which column holds the texts? It has {join_names(columns)}", "name one with --text")
