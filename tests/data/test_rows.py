from __future__ import annotations

import pytest

from llmkit.data.rows import Rows, Spelled, build, concat
from llmkit.errors import DataError


@pytest.fixture
def rows() -> Rows:
    return build({"review": ["a", "b", "c"], "stars": [Spelled("1"), None, Spelled("3.0")]}, "r.jsonl", [1, 3, 4])


def test_take_keeps_where_each_row_stands(rows):
    taken = rows.take([2, 0])
    assert list(taken.records()) == [{"review": "c", "stars": 3.0}, {"review": "a", "stars": 1}]
    assert [taken.where(0), taken.where(1)] == ["r.jsonl:4", "r.jsonl:1"]
    assert len(rows.take([])) == 0


def test_words_are_a_view(rows):
    named = rows.rename({"text": "review"})
    assert named.texts("text") == named.texts("review") == ["a", "b", "c"]
    assert named.columns == ["review", "stars"]
    assert next(named.records()) == {"review": "a", "stars": 1}
    assert rows.words == {}


def test_a_word_may_be_another_columns_name():
    rows = build({"text": ["a"], "title": ["t"]}, "a.csv", [2]).rename({"text": "title"})
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
    joined = concat([rows, build({"stars": ["five", None]}, "b.parquet", [1, 2], by_row=True)])
    assert list(joined.records())[2:] == [{"review": "c", "stars": 3.0}, {"stars": "five"}, {}]
    assert [joined.where(2), joined.where(3)] == ["r.jsonl:4", "b.parquet: row 1"]
    assert joined.name == "r.jsonl and 1 more"
    assert joined.kinds == {"review": "text", "stars": "json"}


def test_concat_needs_the_same_words(rows):
    with pytest.raises(ValueError, match="join them before mapping"):
        concat([rows, rows.rename({"text": "review"})])
