"""Reader of delimited text: .csv as in RFC 4180, .tsv as in IANA's definition (no quoting); cells are kept verbatim."""

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
MAX_CELL_CHARS = 2**31 - 1  # the largest value that fits into a C long on every platform
PLAIN_QUOTES_HINT = "or read quotes as plain text with data.quoting=none"
LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
CELL_PATTERN = r'(?:"[^"]*+(?:""[^"]*+)*+(?:"|\Z))?(?P<plain>[^{0}\n]*+)(?P<end>[{0}\n]|\Z)'


def read_delimited(text: str, name: str, delimiter: str, quoting: str, options: ReadOptions) -> Rows:
    """Read rows below a header line. `delimiter` and `quoting` are the defaults for unset `options`.

    A blank line is an empty cell in a file with one column and is skipped otherwise. Raises DataError for rows of
    another length than the header, malformed quotes, a header with empty or repeated names, or no rows.
    """
    delimiter, quoting = _parse_delimiter(options.delimiter or delimiter), options.quoting or quoting
    errors: list[RowError] = []
    if quoting == "csv":
        # The csv module drops or rejects carriage returns, depending on their position.
        raise_errors(_find_lone_returns(text, name, delimiter))
    lines = _parse_quoted(text, name, delimiter, errors) if quoting == "csv" else _parse_plain(text, delimiter)
    first, header = next((line for line in lines if line[1]), (0, []))
    if not header:
        raise_errors(errors)
        raise DataError(f"{name}: an empty file", "it needs a header line and rows")
    _check_header(header, f"{name}:{first}", delimiter, options)
    numbers, rows = [], []
    for number, cells in lines:
        cells = cells or [""] * (len(header) == 1)
        if len(cells) == len(header):
            numbers.append(number)
            rows.append(cells)
        elif cells:
            errors.append(_cell_count_error(f"{name}:{number}", cells, len(header), delimiter, quoting))
    raise_errors(errors)
    if not rows:
        raise DataError(f"{name}:{first}: a header and no rows", "write the rows below it")
    return build_rows(dict(zip(header, zip(*rows, strict=True), strict=True)), name, numbers)


def _parse_plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each line; a blank line has no cells."""
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        line = line.removesuffix("\r\n").removesuffix("\n")
        yield number, line.split(delimiter) if line else []


def _find_lone_returns(text: str, name: str, delimiter: str) -> list[RowError]:
    """Return an error for each line with a carriage return that is neither quoted nor part of CRLF."""
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
    what = "a carriage return outside quotes that is not a line end"
    fix = "quote the cell, or end each line with one LF or CRLF"
    return [RowError(f"{name}:{number}", what, fix) for number in numbers]


def _parse_quoted(text: str, name: str, delimiter: str, errors: list[RowError]) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and cells of each row; a blank line has no cells.

    Malformed quotes end the iteration with an error in `errors`.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num + 1
    except csv.Error as e:
        errors.append(_explain_csv_error(text, name, delimiter, start, reader.line_num, str(e)))


def _explain_csv_error(text: str, name: str, delimiter: str, start: int, end: int, error: str) -> RowError:
    """Translate the csv module's error in the row of lines `start` to `end`."""
    row = io.StringIO(text, newline="\n").readlines()[start - 1 : end]
    opened = start + _count_lines_before_open_quote("".join(row), delimiter)
    if "unexpected end" in error:
        fix = f"close it, double the quotes inside a quoted cell, {PLAIN_QUOTES_HINT}"
        return RowError(f"{name}:{opened}", "the quote that opens here never closes", fix)
    if "expected after" in error:
        where = "" if opened == end else f" that opened at line {opened}"
        fix = f"double the quotes inside a quoted cell, {PLAIN_QUOTES_HINT}"
        return RowError(f"{name}:{end}", f"text after the closing quote of a cell{where}", fix)
    return RowError(f"{name}:{end}", f"not csv: {error}", "fix the line")


def _count_lines_before_open_quote(row: str, delimiter: str) -> int:
    """Count the line ends before the last quote in `row` that opens a cell and is not properly closed."""
    next_cell = re.compile(f"[{re.escape(delimiter)}\n]")
    at = 0
    while True:
        opened = at
        if row.startswith('"', at):
            closing = re.compile(r'"(?:[^"]|"")*"(?!")').match(row, at)
            if not closing or not next_cell.match(row.replace("\r\n", "\n\n"), closing.end()):
                return row.count("\n", 0, opened)
            at = closing.end()
        match = next_cell.search(row, at)
        if not match:
            return row.count("\n", 0, opened)
        at = match.end()


def _cell_count_error(location: str, cells: list[str], width: int, delimiter: str, quoting: str) -> RowError:
    delimiter_name = DELIMITER_NAMES.get(delimiter, f"'{delimiter}'")
    if len(cells) < width:
        fix = "write every cell, an empty one too"
    elif quoting == "csv":
        fix = f"quote a cell that holds {delimiter_name}, or name the delimiter with data.delimiter"
    else:
        fix = f"without quotes no cell can hold {delimiter_name}"
    if quoting == "none" and any(cell.startswith('"') for cell in cells):
        fix = "if the cells are quoted, read them with data.quoting=csv"
    return RowError(location, f"{pluralize(len(cells), 'cell')} where the header has {width}", fix)


def _check_header(header: list[str], location: str, delimiter: str, options: ReadOptions) -> None:
    if "" in header:
        what = f"column {header.index('') + 1} of {len(header)} has no name"
        raise DataError(f"{location}: {what}", "name it, or leave it out (pandas: to_csv(index=False))")
    name, times = Counter(header).most_common(1)[0]
    if times > 1:
        raise DataError(f"{location}: column '{name}' appears {times} times", "give each column a unique name")
    counts = Counter(character for character in header[0] if character in COMMON_DELIMITERS)
    if len(header) == 1 and counts and options.delimiter is None:
        likely = counts.most_common(1)[0][0]
        what = f"one column, '{header[0]}', that holds {DELIMITER_NAMES.get(likely, repr(likely))}"
        fix = f"split it with {_format_override(likely)}, or keep it whole with {_format_override(delimiter)}"
        raise DataError(f"{location}: {what}", fix)


def _format_override(delimiter: str) -> str:
    """Format the recipe override of the delimiter for a shell."""
    return "data.delimiter=" + ("'\"\\t\"'" if delimiter == "\t" else f"'{delimiter}'")


def _parse_delimiter(delimiter: str) -> str:
    delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        fix = f"write one of {' '.join(map(_format_override, COMMON_DELIMITERS))}"
        raise RecipeError(f"data.delimiter: '{delimiter}' is not one character", fix)
    return delimiter
