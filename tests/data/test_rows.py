from __future__ import annotations

import json

import pytest

from llmkit.data.rows import RawJson, Rows, build_rows, concat_rows, format_json_line, parse_raw_json
from llmkit.errors import DataError


@pytest.fixture
def rows() -> Rows:
    return build_rows({"review": ["a", "b", "c"], "stars": [RawJson("1"), None, RawJson("3.0")]}, "r.jsonl", [1, 3, 4])


def test_take_keeps_where_each_row_stands(rows):
    taken = rows.take([2, 0])
    assert list(taken.records()) == [{"review": "c", "stars": "3.0"}, {"review": "a", "stars": "1"}]
    assert [taken.where(0), taken.where(1)] == ["r.jsonl:4", "r.jsonl:1"]
    assert len(rows.take([])) == 0


def test_words_are_a_view(rows):
    named = rows.rename({"text": "review"})
    assert named.texts("text") == named.texts("review") == ["a", "b", "c"]
    assert named.columns == ["review", "stars"]
    assert next(named.records()) == {"review": "a", "stars": "1"}
    assert rows.words == {}


def test_a_word_may_be_another_columns_name():
    rows = build_rows({"text": ["a"], "title": ["t"]}, "a.csv", [2]).with_column_mapping({"text": "title"})
    assert rows.texts("text") == ["t"]


def test_an_unknown_column(rows):
    with pytest.raises(DataError) as caught:
        rows.texts("revue")
    assert str(caught.value) == "r.jsonl: no column 'revue'; did you mean 'review'?"


def test_a_row_that_lacks_the_column(rows):
    with pytest.raises(DataError) as caught:
        rows.texts("stars")
    assert str(caught.value) == "r.jsonl:3: no 'stars'; write it in every row"


def test_concat_joins_columns_and_kinds(rows):
    joined = concat_rows([rows, build_rows({"stars": ["five", None]}, "b.parquet", [1, 2], row_numbered=True)])
    assert list(joined.records())[2:] == [{"review": "c", "stars": "3.0"}, {"stars": "five"}, {}]
    assert [type(row.get("stars")) for row in joined.records()] == [RawJson, type(None), RawJson, str, type(None)]
    assert [joined.location(2), joined.location(3)] == ["r.jsonl:4", "b.parquet: row 1"]
    assert joined.name == "r.jsonl and 1 more"
    assert joined.formats == {"review": "text", "stars": "json"}


def test_concat_needs_the_same_words(rows):
    with pytest.raises(ValueError, match="join them before mapping"):
        concat_rows([rows, rows.rename({"text": "review"})])


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1.10", "9007199254740993.0", "1E+2", "-0", "1e-999", "9" * 400])
def test_a_number_is_written_as_the_file_spells_it(rows_of, number):
    line = f'{{"text": "a", "score": {number}, "deep": [{{"x": {number}}}]}}'
    (record,) = rows_of("a.jsonl", line + "\n").records()
    assert format_json_line(record) == line
    assert parse_raw_json(record) == json.loads(line)


def test_a_value_over_several_lines_is_written_on_one(rows_of):
    (record,) = rows_of("a.json", '[{"text": "a\\nb", "tags": ["x\\n",\n\t\t2.50]}]').records()
    assert format_json_line(record) == '{"text": "a\\nb", "tags": ["x\\n",   2.50]}'


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_lacks_is_written_as_text(word):
    cells = {word: [RawJson(word)], "deep": [RawJson(f'[1.5, {word}, "{word}, \\"{word}\\"", {{"k": {word}}}]')]}
    (record,) = build_rows(cells, "a.parquet", [1]).records()
    assert format_json_line(record) == (
        f'{{"{word}": "{word}", "deep": [1.5, "{word}", "{word}, \\"{word}\\"", {{"k": "{word}"}}]}}'
    )
    assert str(parse_raw_json(record)[word]) == {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[word]


def test_a_line_is_never_json_that_others_refuse():
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json_line({"value": float("nan")})
