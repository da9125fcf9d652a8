"""The documents of a corpus, one at a time: what does not fit into memory is never held whole.

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
TEXT_SUFFIXES = (".txt", ".text", ".md", ".html", ".htm")  # files of lines, whatever the lines hold
HTML_SUFFIXES = (".html", ".htm")  # a line of one is no document, and tags go from line to line
TABLE_SUFFIXES = (*DELIMITED_FORMATS, ".jsonl", ".ndjson", ".json", ".parquet")
LINE_NUMBERED_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab")  # tables whose rows have lines
COLLECT_BATCH = 10_000  # documents that are held twice


class Document(NamedTuple):
    """One text of a corpus, and where it begins: the file as the user named it, and the 1-based line, or row."""

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
    """Each document of `source`, in the order of the files' names and lines; blank ones are none.

    source: a text file (also .gz), a table (.jsonl, .parquet, .csv ...), a folder of such files at any depth, a
    folder of `save_to_disk`, `pkg://PACKAGE/PATH`, a Hub id, or a list of these. `unit` says what a document of a text
    file is, `column` where a table holds its texts (default: the one that is called as texts are); of several columns
    each cell is a document. Text files, JSON lines and Parquet are read piece by piece. Raises DataError and
    MissingInputError as `read` does, when it comes to the place.
    """
    columns = [column] if isinstance(column, str) else list(dict.fromkeys(column or ()))
    for one in list_corpus_sources(source):
        name, path = str(one), resolve_path(str(one))
        if not path.exists() and can_be_hub_id(name):
            yield from read_row_documents(hub.read_hub_dataset(name, split_role), columns, options)
        elif path.is_dir() and hub.SAVED_DATASET_FILES.intersection(found.name for found in path.iterdir()):
            yield from read_row_documents(hub.read_saved_dataset(path, name, split_role), columns, options)
        else:
            for part in expand_path(name, path):
                yield from read_file_documents(part, unit, columns, options)


def collect_documents(found: Iterable[Document], column: str, name: str) -> Rows:
    """The documents as rows of one column, in memory. Raises DataError where there are none, `name` says of what."""
    import pyarrow as pa

    parts, numbers, files = [], array("q"), array("q")
    names: dict[str, int] = {}
    rest = iter(found)
    while some := list(islice(rest, COLLECT_BATCH)):
        parts.append(pa.array([one.text for one in some], pa.large_string()))
        numbers.extend(one.number for one in some)
        files.extend(names.setdefault(one.name, len(names)) for one in some)
    if not parts:
        raise DataError(f"{name}: no text in it", "name a file with texts")
    lines, places = (np.frombuffer(one, dtype=np.int64) for one in (numbers, files))
    by_row = frozenset(
        one
        for one in names
        if get_format_suffix(Path(one)) in (*TABLE_SUFFIXES, "") and not one.endswith(LINE_NUMBERED_SUFFIXES)
    )
    table = pa.table({column: pa.chunked_array(parts)})
    return Rows(table, {column: "text"}, tuple(names), places, lines, by_row)


def list_corpus_sources(source: RowSource) -> Sequence[str | Path]:
    """The sources in a source. Raises DataError for a mapping: its labels would be lost."""
    if isinstance(source, Mapping):
        raise DataError("a corpus is named by a mapping label: file", "write a list of files")
    if isinstance(source, (str, Path)):
        source = [source]
    found = [inner for one in source for inner in ([one] if isinstance(one, (str, Path)) else list_corpus_sources(one))]
    if not found or "" in map(str, found):
        raise DataError("no data is named", "name a file")
    return found


def expand_path(name: str, path: Path) -> list[CorpusFile]:
    """The files that a name stands for: itself, or all that can be read in the folder, at any depth, sorted."""
    if not path.is_dir():
        if not path.is_file():
            raise make_missing_error(name, path)
        if get_format_suffix(path) not in (*TEXT_SUFFIXES, *TABLE_SUFFIXES) and path.suffix != ".zip":
            known = f"{' '.join((*TEXT_SUFFIXES, *TABLE_SUFFIXES))}, also as .gz"
            raise DataError(f"{name}: the ending '{get_format_suffix(path)}' names no known format", f"known: {known}")
        return [CorpusFile(name, path)]
    inside = sorted(
        found for found in path.rglob("*") if found.is_file() and not is_hidden_path(found.relative_to(path))
    )
    inside = [found for found in inside if not is_cleaning_report(found)]
    readable = [found for found in inside if get_format_suffix(found) in (*TEXT_SUFFIXES, *TABLE_SUFFIXES)]
    if not readable:
        holds = (
            f"it holds {join_names([found.relative_to(path).as_posix() for found in inside])}" if inside else "empty"
        )
        raise DataError(
            f"{name}: a folder without a text in it: {holds}", f"known: {' '.join((*TEXT_SUFFIXES, *TABLE_SUFFIXES))}"
        )
    return [CorpusFile(f"{name.rstrip('/')}/{found.relative_to(path).as_posix()}", found) for found in readable]


def is_hidden_path(path: Path) -> bool:
    """Whether the file, or a folder above it, is out of sight."""
    return any(part.startswith((".", "__")) for part in path.parts)


def is_cleaning_report(path: Path) -> bool:
    """Whether the file tells of the texts beside it, as `data clean` leaves one."""
    if path.name != "report.json":
        return False
    with path.open("rb") as file:
        return b'"made_by": "llmkit ' in file.read(40)


def get_format_suffix(path: Path) -> str:
    """What says the format: the last ending, or the one before .gz."""
    last = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if last == GZIP_SUFFIX else last


def read_file_documents(
    part: CorpusFile, unit: DocumentUnit, columns: Sequence[str], options: ReadOptions
) -> Iterator[Document]:
    """The documents of one file."""
    kind = get_format_suffix(part.path)
    if kind in TEXT_SUFFIXES:
        yield from read_line_documents(
            read_numbered_lines(part, options.encoding), part.name, "file" if kind in HTML_SUFFIXES else unit
        )
    elif kind in (".jsonl", ".ndjson"):
        yield from read_json_documents(part, columns, options)
    elif kind == ".parquet":
        yield from read_parquet_documents(part, columns, options)
    else:  # small formats, or such as cannot be cut: read whole
        data, inner = decompress_file(part.path, part.name)
        decoded, faults = try_decode_text(data, part.name, options.encoding)
        raise_errors(faults)
        if inner in DELIMITED_FORMATS:
            yield from read_row_documents(
                read_delimited(decoded, part.name, *DELIMITED_FORMATS[inner], options), columns, options
            )
        elif inner == ".json":
            yield from read_row_documents(read_json(decoded, part.name, array=True), columns, options)
        else:
            yield from read_line_documents(enumerate(decoded.split("\n"), start=1), part.name, unit)


def read_line_documents(lines: Iterable[tuple[int, str]], name: str, unit: DocumentUnit) -> Iterator[Document]:
    """The documents of numbered lines."""
    held: list[str] = []
    first = 0
    for number, line in lines:
        blank = not line.strip()
        if unit == "line" and not blank:
            yield Document(line, name, number)
        elif unit != "line" and not (blank and not held):
            if blank and unit == "block":
                yield Document("\n".join(held), name, first)
                held = []
            else:
                first = first if held else number
                held.append(line)
    if any(line.strip() for line in held):
        yield Document("\n".join(held).rstrip("\n"), name, first)


def read_json_documents(part: CorpusFile, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """A document for each object of a file of JSON lines, and each of the columns."""
    faults: list[RowError] = []
    for number, row in parse_json_lines(read_numbered_lines(part, options.encoding), part.name, faults):
        columns = columns or [find_text_column(list(row), part.name)]
        where = f"{part.name}:{number}"
        for column in columns:
            text = row.get(column)
            if text is None:
                raise DataError(f"{where}: no '{column}'", "write it in every row, or name another column with --text")
            if isinstance(text, RawJson):
                mend = "name the column of the texts with --text"
                raise DataError(f"{where}: '{column}' is {text[:40]}, not text", mend)
            if has_text(text, where, column, options):
                yield Document(text, part.name, number)
    raise_errors(faults)


def read_parquet_documents(part: CorpusFile, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """A document for each row of a Parquet file, and each of the columns."""
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
                    where = f"{part.name}: row {number}"
                    for column, text in zip(columns, texts, strict=True):
                        if not isinstance(text, str):
                            raise DataError(f"{where}: '{column}' is {str(text)[:40]}, not text", "name another --text")
                        if has_text(text, where, column, options):
                            yield Document(text, part.name, number)
    except (pa.ArrowException, OSError) as fault:
        detail = str(fault).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{part.name}: not a readable Parquet file: {detail}", "write it again") from fault


def read_row_documents(rows: Rows, columns: Sequence[str], options: ReadOptions) -> Iterator[Document]:
    """A document for each row of a table in memory, and each of the columns."""
    columns = columns or [find_text_column(rows.columns, rows.name)]
    check_columns_exist(columns, rows.columns, rows.name)
    for i, cells in enumerate(zip(*map(rows.texts, columns), strict=True)):
        where = rows.location(i)
        for column, text in zip(columns, cells, strict=True):
            if rows.formats[column] != "text" and not text.startswith('"'):
                raise DataError(f"{where}: '{column}' is {text[:40]}, not text", "name another column with --text")
            if has_text(text, where, column, options):
                yield Document(text, rows.files[int(rows.file_index[i])], int(rows.lines[i]))


def has_text(text: str, where: str, column: str, options: ReadOptions) -> bool:
    """Whether there is anything in the text. Raises DataError for an empty one unless such rows are to be left out."""
    if text.strip():
        return True
    if options.on_empty == "error":
        raise DataError(f"{where}: '{column}' is empty", "write it, or leave such rows out with data.on_empty=skip")
    return False


def check_columns_exist(wanted: Sequence[str], columns: Sequence[str], name: str) -> None:
    """Raise DataError for a column that is not there."""
    for column in wanted:
        if column not in columns:
            raise DataError(f"{name}: no column '{column}'", suggest_spelling(column, columns))


def find_text_column(columns: Sequence[str], name: str) -> str:
    """The column of the texts: the only one, or the only one of such a name."""
    for names in ({"text"}, *COLUMN_SYNONYMS["text"]):
        found = [column for column in columns if column.casefold() in names]
        if len(found) == 1:
            return found[0]
    if len(columns) == 1:
        return columns[0]
    raise DataError(f"{name}: which column holds the texts? It has {join_names(columns)}", "name one with --text")
