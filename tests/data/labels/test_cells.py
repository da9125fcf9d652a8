"""Label sets and numbers keep the spelling of the file, and invalid cells are reported with their line."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.data.columns import apply_column_mapping
from llmkit.data.labels.cells import (
    LIST_AS_TEXT,
    check_numbers,
    find_rarest_labels,
    is_plain_number,
    parse_label_sets,
    parse_numbers,
)
from llmkit.data.readers.parquet import convert_table
from llmkit.data.readers.read import ReadOptions, read_rows
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, LlmkitError, RecipeError

UNUSUAL = [
    "a,b",
    'write "hi"',
    "two\nlines",
    "👩‍👩‍👧",
    "\u202eאב",
    "=1+1",
    "a/b/../c",
    "<b>&amp;</b>",
    "01",
    "NA",
    "null",
    " x",
    "e\u0301",
]
OTHER_COLUMN = "map another column with data.columns.label=COLUMN or --label COLUMN"
few_examples = settings(max_examples=60, deadline=None)


def make_cells(*labels: str) -> Rows:
    return build_rows({"label": labels}, "a.csv", range(2, len(labels) + 2))


def error_message(call, *args, **options) -> str:
    with pytest.raises(LlmkitError) as caught:
        call(*args, **options)
    return str(caught.value)


def read_bytes(suffix: str, data: bytes) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a" + suffix)
        path.write_bytes(data)
        return read_rows(path, options=ReadOptions())


def test_a_cell_is_split_at_the_separator():
    assert parse_label_sets(make_cells("b|a", "", "a", " ", "01|1|1.0", "NA|null")) == [
        ["b", "a"], [], ["a"], [], ["01", "1", "1.0"], ["NA", "null"],
    ]  # fmt: skip
    assert parse_label_sets(make_cells("a, b", "a|c"), separator=", ") == [["a", "b"], ["a|c"]]
    assert parse_label_sets(make_cells("a b"), separator=" ") == [["a", "b"]]
    assert parse_label_sets(make_cells(" a|b\n")) == [[" a", "b\n"]]


def test_a_json_list_keeps_spellings(rows_of):
    lines = '{"label": ["b", 1.0, 1e5, -0, true, "a|b", " x"]}\n{"label": [ ]}\n{"label": ["01", 9007199254740993]}\n'
    rows, _ = apply_column_mapping(
        rows_of("a.jsonl", lines), {"label": "label"}, cell_types={"label": ("a list", "text")}
    )
    assert parse_label_sets(rows) == [["b", "1.0", "1e5", "-0", "true", "a|b", " x"], [], ["01", "9007199254740993"]]


def test_a_repeated_label_is_returned_twice(rows_of):
    assert parse_label_sets(make_cells("joy|fear|joy")) == [["joy", "fear", "joy"]]
    assert parse_label_sets(rows_of("a.jsonl", '{"label": ["1", 1]}\n{"label": ["true", true]}\n')) == [
        ["1", "1"], ["true", "true"],
    ]  # fmt: skip


def test_json_text_is_split_too(rows_of):
    rows = rows_of("a.jsonl", '{"label": "a|b"}\n{"label": ""}\n')
    assert parse_label_sets(rows) == [["a", "b"], []]
    mixed = build_rows({"label": ["a|b"]}, "a.csv", [2]), rows_of("b.jsonl", '{"label": ["x"]}\n')
    assert [parse_label_sets(part) for part in mixed] == [[["a", "b"]], [["x"]]]


def test_parquet_lists_are_parsed():
    table = pa.table({"label": pa.array([[1, 10], [], [2]])})
    assert parse_label_sets(convert_table(table, "a.parquet")) == [["1", "10"], [], ["2"]]
    table = pa.table({"label": pa.array([[1.0], [float("nan")]])})
    assert error_message(parse_label_sets, convert_table(table, "a.parquet")) == (
        "a.parquet: row 2: 'label' has NaN or an infinity among its labels; write each label as text, a number or a boolean"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a||b"], "a.csv:3: 'label' has an empty label among its labels; write it, or remove it"),
        (["a|"], "a.csv:2: 'label' has an empty label among its labels; write it, or remove it"),
        (["a| |b"], "a.csv:2: 'label' has an empty label among its labels; write it, or remove it"),
        (
            ["a | b", "c | d | e", "f"],
            (
                "a.csv:2: 'label' has space between the label 'a ' and the separator '|' (the first of 2 bad rows); write it "
                "without, or set classify.separator='\" | \"'\n"
                "  a.csv:2: 'label' has space between the label 'a ' and the separator '|'\n"
                "  a.csv:3: 'label' has space between the label 'c ' and the separator '|'"
            ),
        ),
        (
            ["a|b", "a| b"],
            "a.csv:3: 'label' has space between the label ' b' and the separator '|'; write it without",
        ),
        (
            ["a|\tb"],
            "a.csv:2: 'label' has space between the label '\ufffdb' and the separator '|'; write it without",
        ),
        (
            ["['a', 'b']"],
            (
                "a.csv:2: 'label' is a list written as text, ['a', 'b']; write the labels with '|' between them, or a real list "
                "in a .jsonl file"
            ),
        ),
        (
            ["x", "[]", "a|a", "|"],
            (
                "a.csv:3: 'label' is a list written as text, [] (the first of 2 bad rows); write the labels with '|' between "
                "them, or a real list in a .jsonl file\n"
                "  a.csv:3: 'label' is a list written as text, []\n"
                "  a.csv:5: 'label' has an empty label among its labels"
            ),
        ),
    ],
)  # fmt: skip
def test_invalid_label_cells_are_rejected(labels, message):
    assert error_message(parse_label_sets, make_cells(*labels)) == message


@pytest.mark.parametrize("label", ["[other]", "[a]|[b]", "[27] ways", "a[0]"])
def test_brackets_alone_are_not_a_list(label):
    assert parse_label_sets(make_cells(label)) == [label.split("|")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('["a", null]', "has null among its labels; write each label as text, a number or a boolean"),
        ('[["a"]]', "has a list among its labels; write each label as text, a number or a boolean"),
        ('["a", {"b": 1}]', "has an object among its labels; write each label as text, a number or a boolean"),
        ('["a", " "]', "has an empty label among its labels; write it, or remove it"),
        ('{"a": 1}', 'is an object, not a list of labels; write a list such as ["a", "b"]'),
        ("3", 'is a number, not a list of labels; write a list such as ["a", "b"]'),
        ("null", 'is null, not a list of labels; write a list such as ["a", "b"]'),
    ],
)
def test_lists_with_invalid_labels_are_rejected(rows_of, value, message):
    assert error_message(parse_label_sets, rows_of("a.jsonl", f'{{"label": ["x"]}}\n{{"label": {value}}}\n')) == (
        f"a.jsonl:2: 'label' {message}"
    )


def test_lists_and_text_in_one_column_are_rejected(rows_of):
    rows = rows_of("a.jsonl", '{"label": ["x"]}\n{"label": "x|y"}\n')
    assert error_message(apply_column_mapping, rows, {"label": "label"}, cell_types={"label": ("a list", "text")}) == (
        "a.jsonl:2: 'label' is text here, a list at a.jsonl:1; write one type in all rows"
    )


def test_an_empty_separator_is_rejected():
    with pytest.raises(RecipeError) as caught:
        parse_label_sets(make_cells("a"), separator="")
    assert str(caught.value) == "classify.separator: empty; write the text between two labels"


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.sampled_from(UNUSUAL)
label_lists = st.lists(ANY.filter(str.strip), unique=True, max_size=4)
cell_labels = st.lists(ANY.map(str.strip).filter(lambda label: label and "|" not in label), unique=True, max_size=4)


@pytest.mark.slow
@few_examples
@given(st.lists(label_lists, min_size=1), st.booleans(), st.sampled_from([".jsonl", ".json"]))
def test_json_lists_are_read_back_unchanged(sets, ascii_only, suffix):
    data = "\n".join(json.dumps({"label": labels}, ensure_ascii=ascii_only) for labels in sets)
    assert parse_label_sets(read_bytes(suffix, data.encode())) == sets


@pytest.mark.slow
@few_examples
@given(st.lists(cell_labels.filter(lambda labels: not LIST_AS_TEXT.fullmatch("|".join(labels))), min_size=1))
def test_csv_cells_are_read_back_unchanged(sets):
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *(("t", "|".join(labels)) for labels in sets)]
    )
    assert parse_label_sets(read_bytes(".csv", stream.getvalue().encode())) == sets


@few_examples
@given(
    st.lists(st.text("ab| \t[]'\"", max_size=8) | st.sampled_from(UNUSUAL), min_size=1),
    st.sampled_from(["|", " ", "||", " | "]),
)
def test_any_cell_is_parsed_or_rejected_with_its_line(written, separator):
    try:
        sets = parse_label_sets(make_cells(*written), separator)
    except DataError:  # with the line of the cell; the messages are tested above
        return
    assert [separator.join(labels) for labels in sets] == [cell if cell.strip() else "" for cell in written]


def test_the_rarest_label_of_each_row_is_found():
    assert find_rarest_labels([["a", "b"], ["a"], ["b", "c"], [], ["a", "c"], ["b", "a"]]) == [
        "b",
        "a",
        "c",
        "",
        "c",
        "b",
    ]
    assert find_rarest_labels([["x", "y"], ["y", "x"]]) == ["x", "x"]


def test_many_rows_are_parsed():
    many = make_cells(*(f"label {i % 50}|{UNUSUAL[i % 8]}" for i in range(10_000)))
    assert len(set(find_rarest_labels(parse_label_sets(many)))) == 50
    assert sum(parse_numbers(make_cells(*map(str, range(10_000))))) == 49_995_000


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1.0), ("-1.5", -1.5), ("+2.", 2.0), (".5", 0.5), ("2e-3", 0.002), ("007", 7.0), (" 4.5 ", 4.5), ("-0", 0.0), ("1e-999", 0.0)],
)  # fmt: skip
def test_numbers_in_text_are_parsed(cell, value):
    assert parse_numbers(make_cells(cell)) == [value]


def test_numbers_in_json_and_parquet_are_parsed(rows_of):
    assert parse_numbers(rows_of("a.jsonl", '{"label": 1.50}\n{"label": -2e1}\n')) == [1.5, -20.0]
    assert parse_numbers(rows_of("b.jsonl", '{"label": "1.50"}\n{"label": 3}\n')) == [1.5, 3.0]
    assert parse_numbers(convert_table(pa.table({"label": [1.5, 2.0]}), "a.parquet")) == [1.5, 2.0]


NUMBER_FIX = f"write a number such as 1.5, or {OTHER_COLUMN}"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("n/a", f"is 'n/a', not a number; {NUMBER_FIX}"),
        ("nan", f"is 'nan', not a number; {NUMBER_FIX}"),
        ("-inf", f"is '-inf', not a number; {NUMBER_FIX}"),
        ("0x1F", f"is '0x1F', not a number; {NUMBER_FIX}"),
        ("1_0", f"is '1_0', not a number; {NUMBER_FIX}"),
        ("45%", f"is '45%', not a number; {NUMBER_FIX}"),
        ("٣", f"is '٣', not a number; {NUMBER_FIX}"),
        ("True", f"is 'True', not a number; {NUMBER_FIX}"),
        ("x" * 50, f"is '{'x' * 40}...', not a number; {NUMBER_FIX}"),
        ("", "is empty, not a number; write the number, or leave the row out"),
        (" ", "is empty, not a number; write the number, or leave the row out"),
        ("1,5", "is '1,5', not a number; write 1.5"),
        ("-1.234,56", "is '-1.234,56', not a number; write -1234.56"),
        ("1,500", "is '1,500', not a number; write 1.500 or 1500"),
        ("1_000", "is '1_000', not a number; write 1000"),
        ("1,234,567.5", "is '1,234,567.5', not a number; write 1234567.5"),
        ("1e999", "is 1e999, larger than any number that a model computes with; write it in another unit"),
        ("-4e38", "is -4e38, larger than any number that a model computes with; write it in another unit"),
    ],
)
def test_text_that_is_not_a_number_is_rejected(cell, message):
    assert error_message(parse_numbers, make_cells("1", cell)) == f"a.csv:3: 'label' {message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("true", f"is a boolean, not a number; write a number, or {OTHER_COLUMN}"),
        ("null", f"is null, not a number; write a number, or {OTHER_COLUMN}"),
        ("[1]", f"is a list, not a number; write a number, or {OTHER_COLUMN}"),
        ("1e999", "is 1e999, larger than any number that a model computes with; write it in another unit"),
        ('"1,5"', "is '1,5', not a number; write 1.5"),
    ],
)
def test_json_values_that_are_not_numbers_are_rejected(rows_of, value, message):
    assert (
        error_message(parse_numbers, rows_of("a.jsonl", f'{{"label": 1}}\n{{"label": {value}}}\n'))
        == f"a.jsonl:2: 'label' {message}"
    )


def test_nan_and_infinity_in_parquet_are_rejected():
    table = pa.table({"label": [1.0, float("nan"), float("inf")]})
    assert error_message(parse_numbers, convert_table(table, "a.parquet")) == (
        f"a.parquet: row 2: 'label' is NaN, not a number (the first of 2 bad rows); write a number, or {OTHER_COLUMN}\n"
        "  a.parquet: row 2: 'label' is NaN, not a number\n"
        "  a.parquet: row 3: 'label' is 'Infinity', not a number"
    )


def test_all_bad_numbers_are_counted():
    message = error_message(parse_numbers, make_cells(*["good"] * 7))
    assert message.startswith(f"a.csv:2: 'label' is 'good', not a number (the first of 7 bad rows); {NUMBER_FIX}\n")
    assert message.endswith("\n  ... and 2 more")


@few_examples
@given(st.lists(st.floats(-3e38, 3e38) | st.integers(-(10**20), 10**20), min_size=1))
def test_numbers_are_read_back_unchanged(values):
    assert parse_numbers(make_cells(*map(repr, values))) == [float(value) for value in values]
    data = "\n".join(json.dumps({"label": value}) for value in values)
    assert parse_numbers(read_bytes(".jsonl", data.encode())) == [float(value) for value in values]


@few_examples
@given(ANY | st.text("0123456789.,eE+-_ xnaif", max_size=8))
def test_any_text_is_a_number_or_rejected_with_its_line(text):
    rows = build_rows({"label": [text]}, "a.csv", [2])
    if is_plain_number(text) and abs(float(text)) < 3.4e38:
        assert parse_numbers(rows) == [float(text)]
    else:
        assert error_message(parse_numbers, rows).startswith("a.csv:2: 'label' is ")


def test_numbers_far_outside_the_training_range_are_noted():
    train = make_cells("1", "5", "3")
    assert check_numbers(train, {"test": make_cells("-3", "9", "2")}) == []
    assert check_numbers(train, {"validation": make_cells("2"), "test": make_cells("20", "100", "2")}) == [
        "2 of 3 numbers of test far outside those of train: test has 2 to 100, train 1 to 5"
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1"], "a.csv: train has 1 row; a regression needs at least 2 rows"),
        (
            ["3", "3.0", "3e0"],
            f"a.csv: all 3 rows of train have the number 3; a regression needs numbers that differ; {OTHER_COLUMN}",
        ),
        (["1", "x"], f"a.csv:3: 'label' is 'x', not a number; {NUMBER_FIX}"),
    ],
)
def test_training_numbers_without_variation_are_rejected(labels, message):
    assert error_message(check_numbers, make_cells(*labels), {}) == message


def test_a_bad_number_of_another_split_is_rejected():
    assert (
        error_message(check_numbers, make_cells("1", "2"), {"test": make_cells("one")})
        == f"a.csv:2: 'label' is 'one', not a number; {NUMBER_FIX}"
    )
