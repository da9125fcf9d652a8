"""Delimited text: .csv by the rules of RFC 4180, .tsv by IANA's (no quoting at all). Every cell stays as it stands."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from llmkit.data.readers.decode import ReadOptions
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, RecipeError

DELIMITER_NAMES = {"\t": "a tab"}
COMMON_DELIMITERS = [",", ";", "\t", "|"]
MAX_CELL_CHARS = 2**31 - 1  # the largest that every platform's C long holds
PLAIN_QUOTES_HINT = "or read quotes as plain text with data.quoting=none"
LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
CELL_PATTERN = r'(?:"[^"]*+(?:""[^"]*+)*+(?:"|\Z))?(?P<plain>[^{0}\n]*+)(?P<end>[{0}\n]|\Z)'


def read_delimited(text: str, name: str, delimiter: str, quoting: str, options: ReadOptions) -> Rows:
    """Rows from a header line and the lines below it. `delimiter` and `quoting` hold where `options` names none.

    A blank line is an empty cell in a file of one column and no row in any other. Raises DataError for ragged rows,
    broken quotes, a header with empty or repeated names, or no rows.
    """
    delimiter, quoting = _one_character(options.delimiter or delimiter), options.quoting or quoting
    faults: list[RowError] = []
    if quoting == "csv":
        raise_errors(_lone_returns(text, name, delimiter))  # the csv module drops or refuses them, as they stand
    lines = _quoted(text, name, delimiter, faults) if quoting == "csv" else _plain(text, delimiter)
    first, header = next((line for line in lines if line[1]), (0, []))
    if not header:
        raise_errors(faults)
        raise DataError(f"{name}: an empty file", "it needs a header line and rows")
    _check_header(header, f"{name}:{first}", delimiter, options)
    numbers, rows = [], []
    for number, cells in lines:
        cells = cells or [""] * (len(header) == 1)
        if len(cells) == len(header):
            numbers.append(number)
            rows.append(cells)
        elif cells:
            faults.append(_ragged(f"{name}:{number}", cells, len(header), delimiter, quoting))
    raise_errors(faults)
    if not rows:
        raise DataError(f"{name}:{first}: a header and no rows", "write the rows below it")
    return build_rows(dict(zip(header, zip(*rows, strict=True), strict=True)), name, numbers)


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and cells; a blank line has none."""
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        line = line.removesuffix("\r\n").removesuffix("\n")
        yield number, line.split(delimiter) if line else []


def _lone_returns(text: str, name: str, delimiter: str) -> list[RowError]:
    """A fault for each line with a carriage return that stands outside quotes and in no CRLF."""
    if not LONE_CARRIAGE_RETURN.search(text):
        return []
    numbers: dict[int, None] = {}
    line = 1
    for cell in re.finditer(CELL_PATTERN.format(re.escape(delimiter)), text):
        line += cell[0].count("\n")
        ends_line = cell["end"] == "\n"
        plain = cell["plain"].removesuffix("\r") if ends_line else cell["plain"]
        if "\r" in plain:
            numbers[line - ends_line] = None
    mend = "quote the cell, or end each line with one LF or CRLF"
    what = "a carriage return outside quotes that is no line end"
    return [RowError(f"{name}:{number}", what, mend) for number in numbers]


def _quoted(text: str, name: str, delimiter: str, faults: list[RowError]) -> Iterator[tuple[int, list[str]]]:
    """Each row's first line and cells; a blank line has none. Ends with a fault where the quotes are broken."""
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num + 1
    except csv.Error as e:
        faults.append(_broken(text, name, delimiter, start, reader.line_num, str(e)))


def _broken(text: str, name: str, delimiter: str, start: int, end: int, error: str) -> RowError:
    """What the csv module's error in the row of lines `start` to `end` means."""
    row = io.StringIO(text, newline="\n").readlines()[start - 1 : end]
    opened = start + _last_opening("".join(row), delimiter)
    if "unexpected end" in error:
        mend = f"close it, double the quotes inside a quoted cell, {PLAIN_QUOTES_HINT}"
        return RowError(f"{name}:{opened}", "the quote that opens here never closes", mend)
    if "expected after" in error:
        where = "" if opened == end else f" that opened at line {opened}"
        mend = f"double the quotes inside a quoted cell, {PLAIN_QUOTES_HINT}"
        return RowError(f"{name}:{end}", f"text after the closing quote of a cell{where}", mend)
    return RowError(f"{name}:{end}", f"not csv: {error}", "mend the line")


def _last_opening(row: str, delimiter: str) -> int:
    """How many line ends stand before the last quote in `row` that opens a cell and is not properly closed."""
    next_cell = re.compile(f"[{re.escape(delimiter)}\n]")
    at = 0
    while True:
        opened = at
        if row.startswith('"', at):
            closing = re.compile(r'"(?:[^"]|"")*"(?!")').match(row, at)
            if not closing or not next_cell.match(row.replace("\r\n", "\n\n"), closing.end()):
                return row.count("\n", 0, opened)
            at = closing.end()
        found = next_cell.search(row, at)
        if not found:
            return row.count("\n", 0, opened)
        at = found.end()


def _ragged(where: str, cells: list[str], width: int, delimiter: str, quoting: str) -> RowError:
    shown = DELIMITER_NAMES.get(delimiter, f"'{delimiter}'")
    if len(cells) < width:
        mend = "write every cell, an empty one too"
    elif quoting == "csv":
        mend = f"quote a cell that holds {shown}, or name the delimiter with data.delimiter"
    else:
        mend = f"without quotes no cell can hold {shown}"
    if quoting == "none" and any(cell.startswith('"') for cell in cells):
        mend = "if the cells are quoted, read them with data.quoting=csv"
    return RowError(where, f"{pluralize(len(cells), 'cell')} where the header has {width}", mend)


def _check_header(header: list[str], where: str, delimiter: str, options: ReadOptions) -> None:
    if "" in header:
        what = f"column {header.index('') + 1} of {len(header)} has no name"
        raise DataError(f"{where}: {what}", "name it, or leave it out (pandas: to_csv(index=False))")
    name, times = Counter(header).most_common(1)[0]
    if times > 1:
        raise DataError(f"{where}: column '{name}' is there {times} times", "give each column a name of its own")
    found = Counter(character for character in header[0] if character in COMMON_DELIMITERS)
    if len(header) == 1 and found and options.delimiter is None:
        likely = found.most_common(1)[0][0]
        mend = f"split it with {_key(likely)}, or keep it whole with {_key(delimiter)}"
        raise DataError(
            f"{where}: one column, '{header[0]}', that holds {DELIMITER_NAMES.get(likely, repr(likely))}", mend
        )


def _key(delimiter: str) -> str:
    """The override as a shell takes it."""
    return "data.delimiter=" + ("'\"\\t\"'" if delimiter == "\t" else f"'{delimiter}'")


def _one_character(delimiter: str) -> str:
    delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise RecipeError(
            f"data.delimiter: '{delimiter}' is not one character",
            f"write one of {' '.join(map(_key, COMMON_DELIMITERS))}",
        )
    return delimiter
