"""Baselines of generated text copy from the source."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from llmkit.data.rows import Rows, build_rows
from llmkit.evaluation.baselines import BASELINES, predict_baselines
from llmkit.evaluation.lead_baselines import truncate_words
from llmkit.tasks.base import Task

NAMES = ["lead1", "lead3", "first_sentence", "copy"]
TEXT = "Mr. Fox ran far. He was red.\nHe slept! Nobody saw him."


class Shorten(Task):
    columns = {"text": "a text", "summary": "a shorter one"}
    target = "summary"

    def references(self, rows: Rows) -> list[Any]:
        return [cell.split("/") for cell in rows.texts("summary")]


def make_rows(texts: list[str], summaries: list[str]) -> Rows:
    built = build_rows({"article": texts, "short": summaries}, "rows", range(1, len(texts) + 1))
    return dataclasses.replace(built, column_mapping={"text": "article", "summary": "short"})


def predict(texts: list[str], summaries: list[str]) -> dict[str, list[str]]:
    train = make_rows(["x"] * len(summaries), summaries)
    found = predict_baselines(Shorten(), NAMES, train, make_rows(texts, [""] * len(texts)))
    return {name: [one.value for one in some] for name, some in found.items()}


def test_leads_are_the_first_sentences_unchanged() -> None:
    found = predict([TEXT, ""], ["a b"])
    assert found["lead1"] == ["Mr. Fox ran far.", ""]
    assert found["lead3"] == ["Mr. Fox ran far. He was red.\nHe slept!", ""]
    assert found["copy"] == [TEXT, ""]


@pytest.mark.parametrize(
    ("summaries", "expected"),
    [
        (["a b", "a b c d"], "Mr. Fox ran"),
        (["a/a b c", "a b"], "Mr. Fox"),
        ([""], "Mr"),
        (["a " * 9], "Mr. Fox ran far."),
    ],
)
def test_a_title_has_the_mean_length_of_the_training_references(summaries: list[str], expected: str) -> None:
    assert predict([TEXT], summaries)["first_sentence"] == [expected]


def test_the_length_of_a_chinese_title_is_in_characters() -> None:
    assert predict(["基于BERT的情感分析，很好。真的。"], ["情感分析", "情感"])["first_sentence"] == ["基于BERT"]


def test_truncation_ends_with_a_word() -> None:
    assert truncate_words("one (two), three", 2) == "one (two"
    assert truncate_words("one two.", 2) == "one two."
    assert truncate_words("one two.", 5) == "one two."


def test_lead_baselines_are_registered_with_docstrings() -> None:
    assert all(BASELINES[name].__doc__ for name in NAMES)
