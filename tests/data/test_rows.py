"""Tests of the row table and its JSON lines."""

from __future__ import annotations

import json

import pytest

from llmkit.data.rows import RawJson, Rows, build_rows, concat_rows, format_json_line, parse_raw_json
from llmkit.errors import DataError


@pytest.fixture
def rows() -> Rows:
    return build_rows({"review": ["a", "b", "c"], "stars": [RawJson("1"), None, RawJson("3.0")]}, "r.jsonl", [1, 3, 4])


def test_take_keeps_row_locations(rows):
    taken = rows.take([2, 0])
    assert list(taken.records()) == [{"review": "c", "stars": "3.0"}, {"review": "a", "stars": "1"}]
    assert [taken.location(0), taken.location(1)] == ["r.jsonl:4", "r.jsonl:1"]
    assert len(rows.take([])) == 0


def test_column_mapping_is_a_view(rows):
    mapped = rows.with_column_mapping({"text": "review"})
    assert mapped.texts("text") == mapped.texts("review") == ["a", "b", "c"]
    assert mapped.columns == ["review", "stars"]
    assert next(mapped.records()) == {"review": "a", "stars": "1"}
    assert rows.column_mapping == {}


def test_field_may_have_the_name_of_another_column():
    rows = build_rows({"text": ["a"], "title": ["t"]}, "a.csv", [2]).with_column_mapping({"text": "title"})
    assert rows.texts("text") == ["t"]


def test_unknown_column_is_rejected(rows):
    with pytest.raises(DataError) as caught:
        rows.texts("revue")
    assert str(caught.value) == "r.jsonl: no column 'revue'; did you mean 'review'?"


def test_texts_of_a_column_with_a_gap_are_rejected(rows):
    with pytest.raises(DataError) as caught:
        rows.texts("stars")
    assert str(caught.value) == "r.jsonl:3: no 'stars'; write it in every row"


def test_concat_merges_columns_and_formats(rows):
    joined = concat_rows([rows, build_rows({"stars": ["five", None]}, "b.parquet", [1, 2], row_numbered=True)])
    assert list(joined.records())[2:] == [{"review": "c", "stars": "3.0"}, {"stars": "five"}, {}]
    assert [type(row.get("stars")) for row in joined.records()] == [RawJson, type(None), RawJson, str, type(None)]
    assert [joined.location(2), joined.location(3)] == ["r.jsonl:4", "b.parquet: row 1"]
    assert joined.name == "r.jsonl and 1 more"
    assert joined.formats == {"review": "text", "stars": "json"}


def test_concat_needs_equal_column_mappings(rows):
    with pytest.raises(ValueError, match="join them before mapping"):
        concat_rows([rows, rows.with_column_mapping({"text": "review"})])


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1.10", "9007199254740993.0", "1E+2", "-0", "1e-999", "9" * 400])
def test_numbers_keep_their_spelling(rows_of, number):
    line = f'{{"text": "a", "score": {number}, "deep": [{{"x": {number}}}]}}'
    (record,) = rows_of("a.jsonl", line + "\n").records()
    assert format_json_line(record) == line
    assert parse_raw_json(record) == json.loads(line)


def test_value_over_several_lines_is_written_on_one_line(rows_of):
    (record,) = rows_of("a.json", '[{"text": "a\\nb", "tags": ["x\\n",\n\t\t2.50]}]').records()
    assert format_json_line(record) == '{"text": "a\\nb", "tags": ["x\\n",   2.50]}'


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_non_finite_number_is_written_as_string(constant):
    cells = {
        constant: [RawJson(constant)],
        "deep": [RawJson(f'[1.5, {constant}, "{constant}, \\"{constant}\\"", {{"k": {constant}}}]')],
    }
    (record,) = build_rows(cells, "a.parquet", [1]).records()
    assert format_json_line(record) == (
        f'{{"{constant}": "{constant}", "deep": [1.5, "{constant}", "{constant}, \\"{constant}\\"", {{"k": "{constant}"}}]}}'
    )
    assert str(parse_raw_json(record)[constant]) == {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[constant]


def test_non_finite_float_cannot_be_formatted():
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json_line({"value": float("nan")})
