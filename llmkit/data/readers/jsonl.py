"""JSON: one object a line, or one array of objects in a .json file. Strings are parsed, all else keeps its spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from llmkit.data.row_errors import RowError, raise_errors
from llmkit.data.rows import RawJson, Rows, build_rows
from llmkit.errors import DataError

ONE_OBJECT_FIX = "write one JSON object a line"
VALID_JSON_FIX = "write valid JSON there"
SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # an escape that may be a NUL or half a surrogate pair
JSON_WHITESPACE = re.compile(r"[ \t\r\n]*")
JSON_TYPE_NAMES = {'"': "text", "[": "a list", "{": "an object", "t": "a boolean", "f": "a boolean", "n": "null"}


class JsonError(Exception):
    """What is wrong at a position of the text, and its mend."""

    def __init__(self, what: str, fix: str, position: int = -1) -> None:
        self.what, self.fix, self.position = what, fix, position


def read_json(text: str, name: str, array: bool) -> Rows:
    """Rows from JSON lines, or when `array` allows it from one array of objects. Keys may be absent from some rows.

    Raises DataError for text that is not JSON, lines that are no objects, repeated keys, NaN and lone surrogates.
    """
    if text.isspace() or not text:
        raise DataError(f"{name}: an empty file", ONE_OBJECT_FIX)
    faults: list[RowError] = []
    begins = text[_skip(text, 0)]
    if array and begins == "[":
        rows = list(_elements(text, name, faults))
    else:
        _refuse_other_forms(text, name, begins)
        rows = list(parse_json_lines(enumerate(text.split("\n"), start=1), name, faults))
    raise_errors(faults)
    if not rows:
        raise DataError(f"{name}: an empty array", "write the rows into it")
    keys = dict.fromkeys(key for _, row in rows for key in row)
    if not keys:
        raise DataError(f"{name}: every object is empty", "write the columns into them")
    return build_rows({key: [row.get(key) for _, row in rows] for key in keys}, name, (line for line, _ in rows))


def parse_json_lines(
    lines: Iterable[tuple[int, str]], name: str, faults: list[RowError]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The number and columns of each line that is not blank; what is wrong with others goes into `faults`."""
    for number, line in lines:
        start = _skip(line, 0)
        if start == len(line):
            continue
        try:
            row, end = _object(line, start)
            if line[end:].strip(" \t\r"):
                raise JsonError("bad JSON: more text after the object", ONE_OBJECT_FIX, end)
            yield number, row
        except JsonError as e:
            faults.append(RowError(f"{name}:{number}:{e.position + 1}", e.what, e.fix))


def _elements(text: str, name: str, faults: list[RowError]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each element's line and columns. Ends with a fault where the array is broken."""
    at = _after(text, text.index("["))
    line, counted_to = 1, 0
    try:
        while not text.startswith("]", at):
            line, counted_to = line + text.count("\n", counted_to, at), at
            row, end = _object(text, at)
            yield line, row
            at = _next(text, end, "]")
        if text[at + 1 :].strip(" \t\r\n"):
            raise JsonError("bad JSON: more text after the array", "write one array", at + 1)
    except JsonError as e:
        at = max(e.position, 0)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        faults.append(RowError(f"{name}:{line}:{column}", e.what, e.fix))


def _object(text: str, start: int) -> tuple[dict[str, str], int]:
    """The object at `start`, strings parsed and other values `Spelled`, and the position after it."""
    if not text.startswith("{", start):
        value, _ = _value(text, start)
        what = JSON_TYPE_NAMES.get(text[start], "a number") if isinstance(value, RawJson) else "text"
        raise JsonError(f"{what}, not an object", 'write an object such as {"text": "..."}', start)
    row: dict[str, str] = {}
    at = _after(text, start)
    while not text.startswith("}", at):
        if not text.startswith('"', at):
            raise JsonError("bad JSON: expecting a key in double quotes", VALID_JSON_FIX, at)
        key, end = _value(text, at)
        if key in row:
            raise JsonError(f"the key '{key}' is repeated", "keep one of them", at)
        colon = _skip(text, end)
        if not text.startswith(":", colon):
            raise JsonError("bad JSON: expecting ':'", VALID_JSON_FIX, colon)
        row[key], end = _value(text, _after(text, colon))
        at = _next(text, end, "}")
    return row, at + 1


def _value(text: str, start: int) -> tuple[str, int]:
    """The string at `start` parsed, or any other value `Spelled`, and the position after it."""
    value: Any
    try:
        if text.startswith('"', start):
            value, end = scanstring(text, start + 1, True)
        else:
            value, end = _decoder.scan_once(text, start)  # type: ignore[attr-defined]
    except StopIteration as e:
        raise JsonError("bad JSON: expecting a value", VALID_JSON_FIX, e.value) from e
    except json.JSONDecodeError as e:
        what = e.msg.removesuffix(" at").removesuffix(" starting")
        raise JsonError(f"bad JSON: {what[0].lower()}{what[1:]}", VALID_JSON_FIX, e.pos) from e
    except JsonError as e:
        raise JsonError(e.what, e.fix, start) from e
    except RecursionError as e:
        raise JsonError("lists nested too deeply", "write flatter values", start) from e
    except ValueError as e:
        raise JsonError("a number of too many digits", "write it as text, in quotes", start) from e
    spelled = text[start:end]
    if SUSPECT_ESCAPE.search(spelled):
        _refuse_no_text(value, start)
    return (value if type(value) is str else RawJson(spelled)), end


def _next(text: str, end: int, closing: str) -> int:
    """The position of the next key or element after a comma, or of the closing bracket."""
    at = _skip(text, end)
    if text.startswith(closing, at):
        return at
    if not text.startswith(",", at):
        raise JsonError(f"bad JSON: expecting ',' or '{closing}'", VALID_JSON_FIX, at)
    at = _after(text, at)
    if text.startswith(closing, at):
        raise JsonError(f"bad JSON: a comma before '{closing}'", "take it out", at)
    return at


def _after(text: str, at: int) -> int:
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The position of the first character from `at` that is no white space."""
    space = JSON_WHITESPACE.match(text, at)
    return space.end() if space else at


def _refuse_no_text(value: Any, start: int) -> None:
    try:
        parsed = json.dumps(value, ensure_ascii=False)
        parsed.encode()
    except UnicodeEncodeError as e:
        half = f"\\u{ord(e.object[e.start]):04x}"
        raise JsonError(f"{half} is half of a surrogate pair", "write both halves, or take it out", start) from e
    if "\\u0000" in parsed.replace("\\\\", ""):
        raise JsonError("\\u0000 is a NUL character", "no text holds one: take it out", start)


def _refuse_other_forms(text: str, name: str, begins: str) -> None:
    """Say so where a file of lines is one JSON array, or one object over several lines."""
    first, _, rest = text.strip().partition("\n")
    where = f"{name}:{text.count(chr(10), 0, text.index(begins)) + 1}"
    if begins == "[" and not (rest and _parses(first)):
        mend = "write one object a line, or name the file .json"
        raise DataError(f"{where}: one JSON array, where each line must be an object", mend)
    if begins == "{" and rest and not _parses(first) and _parses(text):
        raise DataError(f"{where}: one JSON object over several lines", ONE_OBJECT_FIX)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise JsonError(f"the key '{repeated}' is repeated", "keep one of them")
    return made


def _no_constant(word: str) -> None:
    raise JsonError(f"{word} is no JSON value", "write a number, or leave the key out")


_decoder = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant)
