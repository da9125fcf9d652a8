"""Metric tokenizers split text by script."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from llmkit.metrics.text.words import has_non_ascii_letters, make_metric_tokenizer, make_rouge_tokenizer


def test_words_are_runs_of_letters_marks_and_digits_of_any_script() -> None:
    text = "Don't  stop: Кошка сидела, नमस्ते 3.5 — ２０２４!"
    assert list(make_metric_tokenizer(False).tokenize(text)) == [
        "don't",
        "stop",
        "кошка",
        "сидела",
        "नमस्ते",
        "3",
        "5",
        "2024",
    ]
    assert make_metric_tokenizer(False).signature == ("tok:words",)


def test_character_mode_splits_only_scripts_without_spaces() -> None:
    assert list(make_metric_tokenizer(True).tokenize("基于BERT模型的2020年,カタ Test-case")) == [
        *"基于", "bert", *"模型的", "2020", "年", *"カタ", "test", "case",
    ]  # fmt: skip
    assert make_metric_tokenizer(True).signature == ("tok:characters",)


@pytest.mark.parametrize("text", ["Running cats' U.S. 3.5 naïve", "", "--", "A\nb"])
def test_english_is_split_as_by_rouge_score(text: str) -> None:
    tokenizer = make_rouge_tokenizer([["plain english"]], False)
    assert list(tokenizer.tokenize(text)) == DefaultTokenizer(use_stemmer=True).tokenize(text)
    assert tokenizer.signature == (f"tok:rouge_score {version('rouge_score')}", "stemmer:porter")


@pytest.mark.parametrize(
    ("reference", "other"),
    [
        ("The cat sat on the mat.", False),
        ("été déjà vu", True),
        ("Кошка", True),
        ("12 -- 3", False),
        ("", False),
        ("a" * 200 + "é", False),
        ("a" * 50 + "é", True),
    ],
)
def test_letters_that_rouge_score_drops_are_detected(reference: str, other: bool) -> None:
    assert has_non_ascii_letters([reference]) is other
    assert (make_rouge_tokenizer([[reference]], False).signature == ("tok:words", "stemmer:none")) is other
