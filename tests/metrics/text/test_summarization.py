"""Summarization metrics equal the packages that define them and are in their intervals."""

from __future__ import annotations

import math
import random
from importlib.metadata import version

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from llmkit.metrics.rows import format_metric_signature
from llmkit.metrics.text.summarization import (
    COPYING_METRICS,
    ROUGE_METRICS,
    SUMMARY_LOWER_IS_BETTER,
    SUMMARY_METRICS,
    SummaryTexts,
    make_summary_statistic,
    score_summaries,
)
from llmkit.version import __version__

ENGLISH = ["the", "running", "cats", "sat", "on", "a", "mat's", "2024", "U.S.", "--", "dogs", "ran"]
CHINESE = [*"我喜欢看电影今天天气好", "BERT", "3"]


def draw_text(rng: random.Random, vocabulary: list[str]) -> str:
    """Draw a text of 0 to 15 words with some line breaks."""
    words = rng.choices(vocabulary, k=rng.choice([0, 1, 2, 5, 15]))
    return "".join(word + rng.choice([" ", " ", ", ", "\n"]) for word in words)


def draw_rows(n: int, seed: int, vocabulary: list[str] = ENGLISH) -> tuple[list[list[str]], list[str], list[str]]:
    """Draw references (one to three per row), predictions and sources."""
    rng = random.Random(seed)
    references = [[draw_text(rng, vocabulary) for _ in range(rng.choice([1, 1, 2, 3]))] for _ in range(n)]
    return references, *([draw_text(rng, vocabulary) for _ in range(n)] for _ in "as")


@pytest.mark.slow
def test_rouge_of_each_row_equals_rouge_score_with_stemmer_and_best_reference() -> None:
    references, predictions, sources = draw_rows(2000, seed=0)
    found = make_summary_statistic(list(ROUGE_METRICS), references, predictions, sources, False)(np.eye(2000))
    scorer = RougeScorer(list(ROUGE_METRICS), use_stemmer=True)
    expected = [scorer.score_multi(*pair) for pair in zip(references, predictions, strict=True)]
    assert found == pytest.approx(
        np.array([[one[name].fmeasure for name in ROUGE_METRICS] for one in expected]), abs=1e-9
    )


def test_chrf_equals_sacrebleu_corpus_score() -> None:
    for seed in range(50):
        references, predictions, sources = draw_rows(1 + seed % 7, seed, CHINESE if seed % 2 else ENGLISH)
        most = max(map(len, references))
        streams = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
        found = score_summaries(["chrf"], references, predictions, sources, bool(seed % 2))["chrf"].value
        assert found == pytest.approx(CHRF().corpus_score(predictions, streams).score / 100, abs=1e-9)


@pytest.mark.parametrize("characters", [False, True])
def test_scores_are_in_their_intervals_and_ignore_row_order(characters: bool) -> None:
    for seed in range(4):
        columns = draw_rows(1 + 8 * seed, seed, CHINESE if characters else ENGLISH)
        found = score_summaries(SUMMARY_METRICS, *columns, characters)
        assert list(found) == list(SUMMARY_METRICS)
        order = random.Random(seed).sample(range(len(columns[0])), len(columns[0]))
        assert repr(found) == repr(
            score_summaries(SUMMARY_METRICS, *([column[i] for i in order] for column in columns), characters)
        )
        values = make_summary_statistic(SUMMARY_METRICS, *columns, characters)(np.ones((1, len(columns[0]))))[0]
        for score, value in zip(found.values(), values, strict=True):
            assert score.value == pytest.approx(value, abs=1e-12, nan_ok=True)
            assert score.low <= score.value <= score.high or math.isnan(score.value)


def test_one_metric_alone_equals_all_together() -> None:
    columns = draw_rows(20, seed=3)
    together = score_summaries(SUMMARY_METRICS, *columns, False, seed=4)
    assert {name: score_summaries([name], *columns, False, seed=4)[name] for name in SUMMARY_METRICS} == together


def get_values(
    references: list[list[str]], predictions: SummaryTexts, sources: SummaryTexts, characters: bool = False
) -> dict[str, float]:
    return {
        name: score.value
        for name, score in score_summaries(SUMMARY_METRICS, references, predictions, sources, characters).items()
    }


def test_predictions_without_words_score_0() -> None:
    for prediction in ("", " ", "?!"):
        found = get_values([["the cat sat"]], [prediction], ["the cat sat on a mat"])
        assert found == dict.fromkeys(SUMMARY_METRICS, 0.0)


def test_a_perfect_prediction_of_one_row_has_a_wide_interval() -> None:
    found = score_summaries(SUMMARY_METRICS, [["the cat sat"]], ["the cat sat"], ["dogs ran"], False)
    for name in (*ROUGE_METRICS, "chrf"):
        assert found[name].value == found[name].high == pytest.approx(1)
        assert found[name].low == pytest.approx(0.2065, abs=1e-4)  # Wilson's bound for one row of one
    assert found["length_ratio"].value == found["novelty"].value == 1
    assert found["copy"].value == found["density"].value == found["repetition"].value == 0


def test_length_ratio_uses_the_mean_reference_length() -> None:
    found = get_values([["a b c d", "a b"], ["a"]], ["a b c", "a b c"], ["", ""])
    assert found["length_ratio"] == pytest.approx(6 / 4)
    assert math.isnan(get_values([["!"]], ["a"], [""])["length_ratio"])


def test_copying_is_a_mean_over_rows() -> None:
    found = get_values([["x"]] * 2, ["the cat lay on the red mat", "the cat sat"], ["the cat sat on the mat"] * 2)
    assert found["copy"] == pytest.approx((5 / 7 + 1) / 2)
    assert found["density"] == pytest.approx((9 / 7 + 3) / 2)
    assert found["novelty"] == pytest.approx((4 / 6 + 0) / 2)
    assert COPYING_METRICS.keys() == {"repetition", "copy", "density", "novelty"}


def test_chinese_is_scored_by_characters() -> None:
    references, predictions = [["基于BERT的情感分析"]], ["基于 BERT 情感 分类"]
    found = get_values(references, predictions, [""], characters=True)
    assert found["rouge1"] == pytest.approx(2 * 6 / (8 + 7))
    assert found["rougeL"] == pytest.approx(2 * 6 / (8 + 7))
    assert found["rouge2"] == pytest.approx(2 * 4 / (7 + 6))
    assert found["length_ratio"] == pytest.approx(7 / 8)
    # Without `characters` words end at spaces and punctuation; rouge_score would keep only "bert".
    assert get_values(references, references[0], [""])["rouge1"] == 1


def test_spaces_between_chinese_characters_change_nothing() -> None:
    rng = random.Random(5)
    texts = ["".join(rng.choices("我喜欢看电影今天", k=rng.randint(0, 9))) for _ in range(60)]
    references, predictions, sources = [[text] for text in texts[:20]], texts[20:40], texts[40:]
    spaced = (
        [[" ".join(row[0])] for row in references],
        *([" ".join(text) for text in some] for some in (predictions, sources)),
    )
    assert get_values(*spaced, characters=True) == pytest.approx(
        get_values(references, predictions, sources, characters=True)
    )


def test_words_of_other_alphabets_are_not_split() -> None:
    found = score_summaries(["rouge1"], [["Кошка сидела дома"]], ["кошка спала дома"], [""], False)["rouge1"]
    assert found.value == pytest.approx(2 / 3)
    assert "|tok:words|stemmer:none|" in found.signature


def test_signatures_have_metric_variant_library_and_interval() -> None:
    found = score_summaries(
        SUMMARY_METRICS, [["a cat", "cats"], ["dogs"]], ["cat", "dog"], ["a cat", "dogs"], False, seed=7
    )
    rouge = f"f1|tok:rouge_score {version('rouge_score')}|stemmer:porter|references:best of 1-2"
    rest = f"interval:bca,2000,seed=7|llmkit {__version__}"
    chrf = f"nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version('sacrebleu')}"
    assert {name: score.signature for name, score in found.items()} == {
        "rougeL": f"rougeL|{rouge}|{rest}",
        "rouge1": f"rouge1|{rouge}|{rest}",
        "rouge2": f"rouge2|{rouge}|{rest}",
        "rougeLsum": f"rougeLsum|{rouge}|sentences:lines|{rest}",
        "chrf": f"chrf|{chrf}|{rest}",
        "length_ratio": f"length_ratio|of:sums|tok:words|references:mean|{rest}",
        "repetition": f"repetition|runs:3|tok:words|{rest}",
        "copy": f"copy|fragments|tok:words|{rest}",
        "density": f"density|fragments|tok:words|{rest}",
        "novelty": f"novelty|runs:2|tok:words|{rest}",
    }
    (one,) = score_summaries(["rouge1"], [["一"]], ["一"], [""], True).values()
    assert one.signature == format_metric_signature(
        "rouge1", ["f1", "tok:characters", "stemmer:none", "references:1"], 0
    )


def test_worse_predictions_increase_repetition_and_lower_rouge() -> None:
    better = get_values([["the cat sat on a mat"]], ["the cat sat on a mat"], [""])
    worse = get_values([["the cat sat on a mat"]], ["the mat the mat the mat"], [""])
    assert SUMMARY_LOWER_IS_BETTER == ("repetition",)
    assert better["repetition"] < worse["repetition"]
    assert better["rougeL"] > worse["rougeL"]


def test_invalid_arguments_raise() -> None:
    with pytest.raises(KeyError, match="rouge3"):
        score_summaries(["rouge3"], [["a"]], ["a"], ["a"], False)
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        make_summary_statistic(["rougeL"], [["a"], ["a"]], ["a"], ["a"], False)
