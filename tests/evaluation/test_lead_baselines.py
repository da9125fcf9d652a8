"""Baselines of generated text take their answers from the source."""

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


def rows(texts: list[str], summaries: list[str]) -> Rows:
    made = build_rows({"article": texts, "short": summaries}, "rows", range(1, len(texts) + 1))
    return dataclasses.replace(made, words={"text": "article", "summary": "short"})


def said(texts: list[str], summaries: list[str]) -> dict[str, list[str]]:
    train = rows(["x"] * len(summaries), summaries)
    found = predict_baselines(Shorten(), NAMES, train, rows(texts, [""] * len(texts)))
    return {name: [one.value for one in some] for name, some in found.items()}


def test_leads_are_the_first_sentences_as_they_stand() -> None:
    found = said([TEXT, ""], ["a b"])
    assert found["lead1"] == ["Mr. Fox ran far.", ""]
    assert found["lead3"] == ["Mr. Fox ran far. He was red.\nHe slept!", ""]
    assert found["copy"] == [TEXT, ""]


@pytest.mark.parametrize(
    ("summaries", "wanted"),
    [
        (["a b", "a b c d"], "Mr. Fox ran"),
        (["a/a b c", "a b"], "Mr. Fox"),
        ([""], "Mr"),
        (["a " * 9], "Mr. Fox ran far."),
    ],
)
def test_a_title_is_as_long_as_the_training_references_on_average(summaries: list[str], wanted: str) -> None:
    assert said([TEXT], summaries)["first_sentence"] == [wanted]


def test_a_chinese_title_is_measured_in_characters() -> None:
    assert said(["基于BERT的情感分析，很好。真的。"], ["情感分析", "情感"])["first_sentence"] == ["基于BERT"]


def test_a_cut_ends_with_a_word() -> None:
    assert truncate_words("one (two), three", 2) == "one (two"
    assert truncate_words("one two.", 2) == "one two."
    assert truncate_words("one two.", 5) == "one two."


def test_they_are_known_by_name_and_say_what_they_are() -> None:
    assert all(BASELINES[name].__doc__ for name in NAMES)
