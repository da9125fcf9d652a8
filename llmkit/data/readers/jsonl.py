"""JSON: one object a line, or one array of objects in a .json file. Strings are parsed, all else keeps its spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from llmkit.data.row_errors import Fault, refuse
from llmkit.data.rows import Rows, Spelled, build
from llmkit.errors import DataError

ONE_A_LINE = "write one JSON object a line"
VALID = "write valid JSON there"
NOT_TEXT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # an escape that may be a NUL or half a surrogate pair
SPACE = re.compile(r"[ \t\r\n]*")
KIND_NAMES = {'"': "text", "[": "a list", "{": "an object", "t": "a boolean", "f": "a boolean", "n": "null"}


class WrongError(Exception):
    """What is wrong at a position of the text, and its mend."""

    def __init__(self, what: str, mend: str, at: int = -1) -> None:
        self.what, self.mend, self.at = what, mend, at


def read_json(text: str, name: str, array: bool) -> Rows:
    """Rows from JSON lines, or when `array` allows it from one array of objects. Keys may be absent from some rows.

    Raises DataError for text that is not JSON, lines that are no objects, repeated keys, NaN and lone surrogates.
    """
    if text.isspace() or not text:
        raise DataError(f"{name}: an empty file", ONE_A_LINE)
    faults: list[Fault] = []
    begins = text[_skip(text, 0)]
    if array and begins == "[":
        rows = list(_elements(text, name, faults))
    else:
        _refuse_other_forms(text, name, begins)
        rows = list(objects(enumerate(text.split("\n"), start=1), name, faults))
    refuse(faults)
    if not rows:
        raise DataError(f"{name}: an empty array", "write the rows into it")
    keys = dict.fromkeys(key for _, row in rows for key in row)
    if not keys:
        raise DataError(f"{name}: every object is empty", "write the columns into them")
    return build({key: [row.get(key) for _, row in rows] for key in keys}, name, (line for line, _ in rows))


def objects(lines: Iterable[tuple[int, str]], name: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, str]]]:
    """The number and columns of each line that is not blank; what is wrong with others goes into `faults`."""
    for number, line in lines:
        start = _skip(line, 0)
        if start == len(line):
            continue
        try:
            row, end = _object(line, start)
            if line[end:].strip(" \t\r"):
                raise WrongError("bad JSON: more text after the object", ONE_A_LINE, end)
            yield number, row
        except WrongError as e:
            faults.append(Fault(f"{name}:{number}:{e.at + 1}", e.what, e.mend))


def _elements(text: str, name: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, str]]]:
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
            raise WrongError("bad JSON: more text after the array", "write one array", at + 1)
    except WrongError as e:
        at = max(e.at, 0)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        faults.append(Fault(f"{name}:{line}:{column}", e.what, e.mend))


def _object(text: str, start: int) -> tuple[dict[str, str], int]:
    """The object at `start`, strings parsed and other values `Spelled`, and the position after it."""
    if not text.startswith("{", start):
        value, _ = _value(text, start)
        what = KIND_NAMES.get(text[start], "a number") if isinstance(value, Spelled) else "text"
        raise WrongError(f"{what}, not an object", 'write an object such as {"text": "..."}', start)
    row: dict[str, str] = {}
    at = _after(text, start)
    while not text.startswith("}", at):
        if not text.startswith('"', at):
            raise WrongError("bad JSON: expecting a key in double quotes", VALID, at)
        key, end = _value(text, at)
        if key in row:
            raise WrongError(f"the key '{key}' is repeated", "keep one of them", at)
        colon = _skip(text, end)
        if not text.startswith(":", colon):
            raise WrongError("bad JSON: expecting ':'", VALID, colon)
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
        raise WrongError("bad JSON: expecting a value", VALID, e.value) from e
    except json.JSONDecodeError as e:
        what = e.msg.removesuffix(" at").removesuffix(" starting")
        raise WrongError(f"bad JSON: {what[0].lower()}{what[1:]}", VALID, e.pos) from e
    except WrongError as e:
        raise WrongError(e.what, e.mend, start) from e
    except RecursionError as e:
        raise WrongError("lists nested too deeply", "write flatter values", start) from e
    except ValueError as e:
        raise WrongError("a number of too many digits", "write it as text, in quotes", start) from e
    spelled = text[start:end]
    if NOT_TEXT.search(spelled):
        _refuse_no_text(value, start)
    return (value if type(value) is str else Spelled(spelled)), end


def _next(text: str, end: int, closing: str) -> int:
    """The position of the next key or element after a comma, or of the closing bracket."""
    at = _skip(text, end)
    if text.startswith(closing, at):
        return at
    if not text.startswith(",", at):
        raise WrongError(f"bad JSON: expecting ',' or '{closing}'", VALID, at)
    at = _after(text, at)
    if text.startswith(closing, at):
        raise WrongError(f"bad JSON: a comma before '{closing}'", "take it out", at)
    return at


def _after(text: str, at: int) -> int:
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The position of the first character from `at` that is no white space."""
    space = SPACE.match(text, at)
    return space.end() if space else at


def _refuse_no_text(value: Any, start: int) -> None:
    try:
        parsed = json.dumps(value, ensure_ascii=False)
        parsed.encode()
    except UnicodeEncodeError as e:
        half = f"\\u{ord(e.object[e.start]):04x}"
        raise WrongError(f"{half} is half of a surrogate pair", "write both halves, or take it out", start) from e
    if "\\u0000" in parsed.replace("\\\\", ""):
        raise WrongError("\\u0000 is a NUL character", "no text holds one: take it out", start)


def _refuse_other_forms(text: str, name: str, begins: str) -> None:
    """Say so where a file of lines is one JSON array, or one object over several lines."""
    first, _, rest = text.strip().partition("\n")
    where = f"{name}:{text.count(chr(10), 0, text.index(begins)) + 1}"
    if begins == "[" and not (rest and _parses(first)):
        mend = "write one object a line, or name the file .json"
        raise DataError(f"{where}: one JSON array, where each line must be an object", mend)
    if begins == "{" and rest and not _parses(first) and _parses(text):
        raise DataError(f"{where}: one JSON object over several lines", ONE_A_LINE)


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
        raise WrongError(f"the key '{repeated}' is repeated", "keep one of them")
    return made


def _no_constant(word: str) -> None:
    raise WrongError(f"{word} is no JSON value", "write a number, or leave the key out")


_decoder = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant)
