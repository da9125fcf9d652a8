"""Tests of the CSV and TSV reader."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.data.readers.csv_tsv import read_delimited
from llmkit.data.readers.decode import ReadOptions
from llmkit.errors import DataError

QUOTES = "double the quotes inside a quoted cell, or read quotes as plain text with data.quoting=none"
RETURN = "a carriage return outside quotes that is not a line end; quote the cell, or end each line with one LF or CRLF"
TAB = "'\"\\t\"'"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.csv",
            "text,label\na,b,c\nd,e\n",
            "a.csv:2: 3 cells where the header has 2; quote a cell that holds ',', or name the delimiter with data.delimiter",
        ),
        (
            "a.csv",
            "text,label\na,b\nc\n",
            "a.csv:3: 1 cell where the header has 2; write every cell, an empty one too",
        ),
        (
            "a.csv",
            "text,label\n" + "a,b\nc\n" * 7,
            (
                "a.csv:3: 1 cell where the header has 2 (the first of 7 bad rows); write every cell, an empty one too\n"
                "  a.csv:3: 1 cell where the header has 2\n"
                "  a.csv:5: 1 cell where the header has 2\n"
                "  a.csv:7: 1 cell where the header has 2\n"
                "  a.csv:9: 1 cell where the header has 2\n"
                "  a.csv:11: 1 cell where the header has 2\n"
                "  ... and 2 more"
            ),
        ),
        (
            "a.tsv",
            "text\tlabel\na\tb\tc\n",
            "a.tsv:2: 3 cells where the header has 2; without quotes no cell can hold a tab",
        ),
        (
            "a.tsv",
            'text\tlabel\n"a\tb"\tc\n',
            "a.tsv:2: 3 cells where the header has 2; if the cells are quoted, read them with data.quoting=csv",
        ),
        (
            "a.csv",
            'text,label\n"x\ny",c\n"open,1\nd,2\n',
            f"a.csv:4: the quote that opens here never closes; close it, {QUOTES}",
        ),
        (
            "a.csv",
            'text,label\na,b\n"x\ny","open\nd,2\n',
            f"a.csv:4: the quote that opens here never closes; close it, {QUOTES}",
        ),
        ("a.csv", 'text,label\n"x" y,c\n', f"a.csv:2: text after the closing quote of a cell; {QUOTES}"),
        (
            "a.csv",
            'text,label\n"x\n" y,c\n',
            f"a.csv:3: text after the closing quote of a cell that opened at line 2; {QUOTES}",
        ),
        ("a.csv", "text,label\na\rb,c\n", f"a.csv:2: {RETURN}"),
        ("a.csv", "text,label\na,b\r\r\n", f"a.csv:2: {RETURN}"),
        ("a.csv", "text,label\na,b\r", f"a.csv:2: {RETURN}"),
        ("a.csv", 'text,label\n"a\r\r\nb","c"\r\r\n', f"a.csv:3: {RETURN}"),
        ("a.csv", 'text,label\r\n"a\n""\r",b"\r"c\r\n', f"a.csv:3: {RETURN}"),
        (
            "a.csv",
            "text,label\ra,b\r\nc\r,d\n",
            (
                "a.csv:1: a carriage return outside quotes that is not a line end (the first of 2 bad rows); "
                "quote the cell, or end each line with one LF or CRLF\n"
                "  a.csv:1: a carriage return outside quotes that is not a line end\n"
                "  a.csv:2: a carriage return outside quotes that is not a line end"
            ),
        ),
        (
            "a.csv",
            "text;label\na;b\n",
            (
                "a.csv:1: one column, 'text;label', that holds ';'; split it with data.delimiter=';', or keep it whole with "
                "data.delimiter=','"
            ),
        ),
        (
            "a.csv",
            "text\tlabel\na\tb\n",
            (
                f"a.csv:1: one column, 'text\ufffdlabel', that holds a tab; split it with data.delimiter={TAB}, or keep it whole "
                "with data.delimiter=','"
            ),
        ),
        (
            "a.tsv",
            "text,label\na,b\n",
            (
                "a.tsv:1: one column, 'text,label', that holds ','; split it with data.delimiter=',', or keep it whole with "
                f"data.delimiter={TAB}"
            ),
        ),
        ("a.csv", "text,text\na,b\n", "a.csv:1: column 'text' appears 2 times; give each column a unique name"),
        (
            "a.csv",
            ",text,label\n0,a,b\n",
            "a.csv:1: column 1 of 3 has no name; name it, or leave it out (pandas: to_csv(index=False))",
        ),
        ("a.csv", "", "a.csv: an empty file; write rows into it"),
        ("a.csv", "\n\n", "a.csv: an empty file; it needs a header line and rows"),
        ("a.csv", "\ufeff", "a.csv: an empty file; it needs a header line and rows"),
        ("a.csv", "text,label\n", "a.csv:1: a header and no rows; write the rows below it"),
        ("a.csv", "\ntext,label", "a.csv:2: a header and no rows; write the rows below it"),
    ],
)
def test_malformed_files_are_rejected(refusal, name, data, message):
    assert refusal(name, data) == message


def test_delimiter_of_several_characters_is_rejected(refusal):
    assert refusal("a.csv", "a;;b\nc;;d\n", delimiter=";;") == (
        f"data.delimiter: ';;' is not one character; write one of data.delimiter=',' data.delimiter=';' data.delimiter={TAB} "
        "data.delimiter='|'"
    )


@pytest.mark.parametrize("delimiter", [";", "|", "\t", "tab"])
def test_given_delimiter_separates_cells(rows_of, delimiter):
    sign = "\t" if delimiter == "tab" else delimiter
    assert rows_of("a.csv", f"text{sign}label\na,b{sign}c\n", delimiter=delimiter).texts("text") == ["a,b"]


def test_given_delimiter_allows_one_column(rows_of):
    assert rows_of("a.csv", "text; really\na;b\n", delimiter=",").texts("text; really") == ["a;b"]


def test_cells_are_kept_verbatim(rows_of):
    cells = ["NA", "null", "None", "nan", "", "01", "1e5", "True", " x ", "-", "1.0", "#N/A"]
    rows = rows_of("a.csv", "text,label\n" + "".join(f"{cell},{cell}\n" for cell in cells))
    assert rows.texts("text") == rows.texts("label") == cells
    assert list(rows.records()) == [{"text": cell, "label": cell} for cell in cells]


def test_line_numbers_are_physical_lines(rows_of):
    rows = rows_of("a.csv", '\ufefftext,label\r\n"one\r\ntwo\nthree",a\r\n\r\nfour,b\r\n')
    assert rows.texts("text") == ["one\r\ntwo\nthree", "four"]
    assert [rows.location(row) for row in range(2)] == ["a.csv:2", "a.csv:6"]


def test_tsv_reads_quotes_as_text_by_default(rows_of):
    data = 'text\tlabel\n"a ""quoted"" word"\tb\n'
    assert rows_of("a.tsv", data).texts("text") == ['"a ""quoted"" word"']
    assert rows_of("a.tsv", data, quoting="csv").texts("text") == ['a "quoted" word']
    assert rows_of("a.csv", 'text,label\n"open,b\n', quoting="none").texts("text") == ['"open']


def test_unicode_line_separators_are_kept(rows_of):
    odd = "a\u2028b\x85c\x0bd\x0ce\u2029f\x1cg"
    assert rows_of("a.csv", f"text,label\n{odd},x\n").texts("text") == [odd]
    assert rows_of("a.tsv", f"text\tlabel\n{odd}\rh\tx\r\n").texts("text") == [odd + "\rh"]


def test_blank_line_is_a_row_only_in_a_single_column_file(rows_of):
    assert rows_of("a.csv", "text\na\n\nb\n\n\r\n").texts("text") == ["a", "", "b", "", ""]
    assert rows_of("a.tsv", "text\na\n\nb\n\n\r\n").texts("text") == ["a", "", "b", "", ""]
    assert rows_of("a.csv", "text\na").texts("text") == rows_of("a.csv", "text\r\na\r\n").texts("text") == ["a"]
    assert rows_of("b.csv", "text,label\na,b\n\nc,d\n\n").lines.tolist() == [2, 4]


def test_cell_of_ten_megabytes_is_read(rows_of):
    long = "很长 long " * 800_000
    assert rows_of("a.csv", f'text,label\n"{long}",x\n').texts("text") == [long]


@pytest.mark.parametrize("cell", ["\r", "a\r", "\r\r\n", "a\r\nb\rc\n", '""\r""'])
def test_quoted_carriage_return_is_kept(rows_of, cell):
    rows = rows_of("a.csv", f'text,label\r\n"{cell}","{cell}"\r\n')
    assert rows.texts("text") == rows.texts("label") == [cell.replace('""', '"')]


def count_lone_returns(text: str) -> int:
    return text.count("\r") - text.count("\r\n")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", ",", '"', '""', "\r", "\n", "\r\n", '"a\rb"', '"\r",'])).map("".join))
def test_no_carriage_return_is_lost(text):
    try:
        rows = read_delimited("x,y\n" + text, "a.csv", ",", "csv", ReadOptions())
    except DataError as error:  # any other exception is a bug
        message = str(error)
        assert re.match(r"a\.csv:[0-9]+: .+; .+", message)
        return
    assert sum(map(count_lone_returns, rows.texts("x") + rows.texts("y"))) == count_lone_returns(text)
