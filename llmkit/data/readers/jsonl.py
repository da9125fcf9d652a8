"""Reader of JSON lines and of .json arrays of objects; strings are parsed, other values keep their spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from llmkit.data.row_errors import RowError, raise_errors
from llmkit.data.rows import RawJson, Rows, build_rows
from llmkit.errors import DataError

ONE_OBJECT_FIX = "write one JSON object per line"
VALID_JSON_FIX = "write valid JSON there"
SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # an escape that may be a NUL or half a surrogate pair
JSON_WHITESPACE = re.compile(r"[ \t\r\n]*")
JSON_TYPE_NAMES = {'"': "text", "[": "a list", "{": "an object", "t": "a boolean", "f": "a boolean", "n": "null"}


class JsonError(Exception):
    """Invalid JSON at a position of the text, with its fix."""

    def __init__(self, what: str, fix: str, position: int = -1) -> None:
        self.what, self.fix, self.position = what, fix, position


def read_json(text: str, name: str, array: bool) -> Rows:
    """Read rows from JSON lines or, if `array` allows it, from one array of objects; rows may lack keys.

    Raises DataError for invalid JSON, lines that are not objects, repeated keys, NaN and half surrogate pairs.
    """
    if text.isspace() or not text:
        raise DataError(f"{name}: an empty file", ONE_OBJECT_FIX)
    errors: list[RowError] = []
    first_char = text[_skip_whitespace(text, 0)]
    if array and first_char == "[":
        rows = list(_parse_array(text, name, errors))
    else:
        _reject_other_forms(text, name, first_char)
        rows = list(parse_json_lines(enumerate(text.split("\n"), start=1), name, errors))
    raise_errors(errors)
    if not rows:
        raise DataError(f"{name}: an empty array", "write the rows into it")
    keys = dict.fromkeys(key for _, row in rows for key in row)
    if not keys:
        raise DataError(f"{name}: every object is empty", "write the columns into them")
    return build_rows({key: [row.get(key) for _, row in rows] for key in keys}, name, (line for line, _ in rows))


def parse_json_lines(
    lines: Iterable[tuple[int, str]], name: str, errors: list[RowError]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and object of each line that is not blank; invalid lines are added to `errors`."""
    for number, line in lines:
        start = _skip_whitespace(line, 0)
        if start == len(line):
            continue
        try:
            row, end = _parse_object(line, start)
            if line[end:].strip(" \t\r"):
                raise JsonError("bad JSON: more text after the object", ONE_OBJECT_FIX, end)
            yield number, row
        except JsonError as e:
            errors.append(RowError(f"{name}:{number}:{e.position + 1}", e.what, e.fix))


def _parse_array(text: str, name: str, errors: list[RowError]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and object of each element. Invalid JSON ends the iteration with an error in `errors`."""
    at = _skip_char(text, text.index("["))
    line, counted_to = 1, 0
    try:
        while not text.startswith("]", at):
            line, counted_to = line + text.count("\n", counted_to, at), at
            row, end = _parse_object(text, at)
            yield line, row
            at = _find_next_item(text, end, "]")
        if text[at + 1 :].strip(" \t\r\n"):
            raise JsonError("bad JSON: more text after the array", "write one array", at + 1)
    except JsonError as e:
        at = max(e.position, 0)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        errors.append(RowError(f"{name}:{line}:{column}", e.what, e.fix))


def _parse_object(text: str, start: int) -> tuple[dict[str, str], int]:
    """Return the object at `start`, with parsed strings and other values as `RawJson`, and the position after it."""
    if not text.startswith("{", start):
        value, _ = _parse_value(text, start)
        what = JSON_TYPE_NAMES.get(text[start], "a number") if isinstance(value, RawJson) else "text"
        raise JsonError(f"{what}, not an object", 'write an object such as {"text": "..."}', start)
    row: dict[str, str] = {}
    at = _skip_char(text, start)
    while not text.startswith("}", at):
        if not text.startswith('"', at):
            raise JsonError("bad JSON: expecting a key in double quotes", VALID_JSON_FIX, at)
        key, end = _parse_value(text, at)
        if key in row:
            raise JsonError(f"the key '{key}' is repeated", "keep one of them", at)
        colon = _skip_whitespace(text, end)
        if not text.startswith(":", colon):
            raise JsonError("bad JSON: expecting ':'", VALID_JSON_FIX, colon)
        row[key], end = _parse_value(text, _skip_char(text, colon))
        at = _find_next_item(text, end, "}")
    return row, at + 1


def _parse_value(text: str, start: int) -> tuple[str, int]:
    """Return the parsed string at `start`, or any other value as `RawJson`, and the position after it."""
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
        raise JsonError("a number with too many digits", "write it as text, in quotes", start) from e
    raw = text[start:end]
    if SUSPECT_ESCAPE.search(raw):
        _reject_invalid_text(value, start)
    return (value if type(value) is str else RawJson(raw)), end


def _find_next_item(text: str, end: int, closing: str) -> int:
    """Return the position of the next key or element after a comma, or of the closing bracket."""
    at = _skip_whitespace(text, end)
    if text.startswith(closing, at):
        return at
    if not text.startswith(",", at):
        raise JsonError(f"bad JSON: expecting ',' or '{closing}'", VALID_JSON_FIX, at)
    at = _skip_char(text, at)
    if text.startswith(closing, at):
        raise JsonError(f"bad JSON: a comma before '{closing}'", "remove it", at)
    return at


def _skip_char(text: str, at: int) -> int:
    return _skip_whitespace(text, at + 1)


def _skip_whitespace(text: str, at: int) -> int:
    """Return the position of the first character from `at` that is not white space."""
    space = JSON_WHITESPACE.match(text, at)
    return space.end() if space else at


def _reject_invalid_text(value: Any, start: int) -> None:
    try:
        dumped = json.dumps(value, ensure_ascii=False)
        dumped.encode()
    except UnicodeEncodeError as e:
        half = f"\\u{ord(e.object[e.start]):04x}"
        raise JsonError(f"{half} is half of a surrogate pair", "write both halves, or remove it", start) from e
    if "\\u0000" in dumped.replace("\\\\", ""):
        raise JsonError("\\u0000 is a NUL character", "text cannot contain it: remove it", start)


def _reject_other_forms(text: str, name: str, first_char: str) -> None:
    """Raise DataError if the file is one JSON array, or one object over several lines."""
    first, _, rest = text.strip().partition("\n")
    location = f"{name}:{text.count(chr(10), 0, text.index(first_char)) + 1}"
    if first_char == "[" and not (rest and _is_json(first)):
        fix = "write one object per line, or name the file .json"
        raise DataError(f"{location}: one JSON array, where each line must be an object", fix)
    if first_char == "{" and rest and not _is_json(first) and _is_json(text):
        raise DataError(f"{location}: one JSON object over several lines", ONE_OBJECT_FIX)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise JsonError(f"the key '{repeated}' is repeated", "keep one of them")
    return obj


def _reject_constant(constant: str) -> None:
    raise JsonError(f"{constant} is not a JSON value", "write a number, or leave the key out")


_decoder = json.JSONDecoder(object_pairs_hook=_reject_repeated_keys, parse_constant=_reject_constant)
