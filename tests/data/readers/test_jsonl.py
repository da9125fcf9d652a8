"""Tests of the JSON reader."""

from __future__ import annotations

import pytest

from llmkit.data.rows import parse_raw_json

LINES = "write one JSON object per line"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            '{"text": "a" "label": 1}\n{"text": "b"}\n{\n',
            (
                "a.jsonl:1:14: bad JSON: expecting ',' or '}' (the first of 2 bad rows); write valid JSON there\n"
                "  a.jsonl:1:14: bad JSON: expecting ',' or '}'\n"
                "  a.jsonl:3:2: bad JSON: expecting a key in double quotes"
            ),
        ),
        (
            '{"text": "a"}\n[1, 2]\n3\n"x"\nnull\ntrue\n',
            (
                'a.jsonl:2:1: a list, not an object (the first of 5 bad rows); write an object such as {"text": "..."}\n'
                "  a.jsonl:2:1: a list, not an object\n"
                "  a.jsonl:3:1: a number, not an object\n"
                "  a.jsonl:4:1: text, not an object\n"
                "  a.jsonl:5:1: null, not an object\n"
                "  a.jsonl:6:1: a boolean, not an object"
            ),
        ),
        ('{"text": "a", "text": "b"}\n', "a.jsonl:1:15: the key 'text' is repeated; keep one of them"),
        ('{"text": "a", "m": {"k": 1, "k": 2}}\n', "a.jsonl:1:20: the key 'k' is repeated; keep one of them"),
        (
            '{"text": "a", "v": NaN}\n',
            "a.jsonl:1:20: NaN is not a JSON value; write a number, or leave the key out",
        ),
        (
            '{"text": "a", "v": [1, -Infinity]}\n',
            "a.jsonl:1:20: -Infinity is not a JSON value; write a number, or leave the key out",
        ),
        (
            '{"text": "\\ud83d"}\n',
            "a.jsonl:1:10: \\ud83d is half of a surrogate pair; write both halves, or remove it",
        ),
        (
            '{"text": "a", "v": ["\\uDE00"]}\n',
            "a.jsonl:1:20: \\ude00 is half of a surrogate pair; write both halves, or remove it",
        ),
        ('{"text": "a\\u0000b"}\n', "a.jsonl:1:10: \\u0000 is a NUL character; text cannot contain it: remove it"),
        ('{"text": "a"} {"text": "b"}\n', f"a.jsonl:1:14: bad JSON: more text after the object; {LINES}"),
        ('{"text": "a\tb"}\n', "a.jsonl:1:12: bad JSON: invalid control character; write valid JSON there"),
        ('{"text": 01}\n', "a.jsonl:1:11: bad JSON: expecting ',' or '}'; write valid JSON there"),
        ('{"text": "a",}\n', "a.jsonl:1:14: bad JSON: a comma before '}'; remove it"),
        ('{text: "a"}\n', "a.jsonl:1:2: bad JSON: expecting a key in double quotes; write valid JSON there"),
        ('{"text" "a"}\n', "a.jsonl:1:9: bad JSON: expecting ':'; write valid JSON there"),
        ('{"text": }\n', "a.jsonl:1:10: bad JSON: expecting a value; write valid JSON there"),
        ('{"text": "abc\n', "a.jsonl:1:10: bad JSON: unterminated string; write valid JSON there"),
        ('{"n": ' + "1" * 5000 + "}\n", "a.jsonl:1:7: a number with too many digits; write it as text, in quotes"),
        ('{"n": ' + "[" * 100_000 + "}\n", "a.jsonl:1:7: lists nested too deeply; write flatter values"),
        (
            '[{"text": "a"},\n {"text": "b"}]\n',
            f"a.jsonl:1: one JSON array, where each line must be an object; {LINES.replace('JSON ', '')}, or name the file .json",
        ),
        (
            '\n[{"text": "a"}]\n',
            "a.jsonl:2: one JSON array, where each line must be an object; write one object per line, or name the file .json",
        ),
        ('{\n "text": "a"\n}\n', f"a.jsonl:1: one JSON object over several lines; {LINES}"),
        ("\n \n", f"a.jsonl: an empty file; {LINES}"),
        ("", "a.jsonl: an empty file; write rows into it"),
        ("{}\n", "a.jsonl: every object is empty; write the columns into them"),
    ],
)
def test_invalid_json_lines_are_rejected(refusal, data, message):
    assert refusal("a.jsonl", data) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[]", "a.json: an empty array; write the rows into it"),
        (
            '[{"text": "a"},\n 3]',
            'a.json:2:2: a number, not an object; write an object such as {"text": "..."}',
        ),
        (
            '[{"text": "a"}\n {"text": "b"}]',
            "a.json:2:2: bad JSON: expecting ',' or ']'; write valid JSON there",
        ),
        ('[{"text": "a"},\n', "a.json:2:1: bad JSON: expecting a value; write valid JSON there"),
        ('[{"text": "a"},\n]', "a.json:2:1: bad JSON: a comma before ']'; remove it"),
        ('[{"text": "a"}] x', "a.json:1:16: bad JSON: more text after the array; write one array"),
        ('{\n "data": []\n}\n', f"a.json:1: one JSON object over several lines; {LINES}"),
    ],
)
def test_invalid_json_arrays_are_rejected(refusal, data, message):
    assert refusal("a.json", data) == message


def test_values_keep_their_spelling(rows_of):
    raw_values = ["1e5", "1.0", "-0", "true", "false", "null", '[1.50, "\\u00e9"]', '{"k":  1}']
    rows = rows_of("a.jsonl", "".join(f'{{"text": "a", "v": {value}}}\n' for value in raw_values))
    assert rows.formats == {"text": "text", "v": "json"}
    assert rows.texts("v") == raw_values
    values = [1e5, 1.0, 0, True, False, None, [1.5, "é"], {"k": 1}]
    assert [record["v"] for record in rows.records()] == raw_values
    assert [parse_raw_json(record)["v"] for record in rows.records()] == values


def test_mixed_columns_and_absent_keys_are_restored(rows_of):
    rows = rows_of("a.jsonl", '{"a": "x", "b": "é"}\n{"b": 2}\n\n{"a": "y", "c": []}\n')
    records = [parse_raw_json(record) for record in rows.records()]
    assert records == [{"a": "x", "b": "é"}, {"b": 2}, {"a": "y", "c": []}]
    assert rows.lines.tolist() == [1, 2, 4]
    assert rows.cells("b") == ['"é"', "2", None]


def test_array_elements_have_line_numbers(rows_of):
    rows = rows_of("a.json", '[\n  {"text": "a"},\n  {\n    "text": "b"\n  }, {"text": "c"}\n]\n')
    assert [rows.location(row) for row in range(3)] == ["a.json:2", "a.json:3", "a.json:5"]


def test_json_file_may_contain_json_lines(rows_of):
    assert rows_of("a.json", '{"text": "a"}\n{"text": "b"}\n').texts("text") == ["a", "b"]


def test_crlf_byte_order_mark_and_unicode_line_separators(rows_of):
    rows = rows_of("a.ndjson", '\ufeff{"text": "a\u2028b\x85c"}\r\n{"text": "\\ud83d\\ude00 \\\\u0000"}\r\n')
    assert rows.texts("text") == ["a\u2028b\x85c", "😀 \\u0000"]
