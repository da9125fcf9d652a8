"""Scores of summaries equal the packages that define them, lie in their intervals, and hang on nothing else."""

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


def text(chance: random.Random, vocabulary: list[str]) -> str:
    """No word to fifteen, on some lines."""
    said = chance.choices(vocabulary, k=chance.choice([0, 1, 2, 5, 15]))
    return "".join(word + chance.choice([" ", " ", ", ", "\n"]) for word in said)


def rows(n: int, seed: int, vocabulary: list[str] = ENGLISH) -> tuple[list[list[str]], list[str], list[str]]:
    """References (one to three a row), answers and sources."""
    chance = random.Random(seed)
    references = [[text(chance, vocabulary) for _ in range(chance.choice([1, 1, 2, 3]))] for _ in range(n)]
    return references, *([text(chance, vocabulary) for _ in range(n)] for _ in "as")


def test_rouge_of_each_row_is_rouge_scores_with_its_stemmer_and_the_best_reference() -> None:
    references, answers, sources = rows(2000, seed=0)
    found = make_summary_statistic(list(ROUGE_METRICS), references, answers, sources, False)(np.eye(2000))
    scorer = RougeScorer(list(ROUGE_METRICS), use_stemmer=True)
    wanted = [scorer.score_multi(*pair) for pair in zip(references, answers, strict=True)]
    assert found == pytest.approx(
        np.array([[one[name].fmeasure for name in ROUGE_METRICS] for one in wanted]), abs=1e-9
    )


def test_chrf_is_sacrebleus_of_the_corpus() -> None:
    for seed in range(50):
        references, answers, sources = rows(1 + seed % 7, seed, CHINESE if seed % 2 else ENGLISH)
        most = max(map(len, references))
        streams = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
        found = score_summaries(["chrf"], references, answers, sources, bool(seed % 2))["chrf"].value
        assert found == pytest.approx(CHRF().corpus_score(answers, streams).score / 100, abs=1e-9)


@pytest.mark.parametrize("characters", [False, True])
def test_scores_lie_in_their_intervals_and_the_order_of_rows_changes_no_bit(characters: bool) -> None:
    for seed in range(4):
        columns = rows(1 + 8 * seed, seed, CHINESE if characters else ENGLISH)
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


def test_one_metric_alone_is_the_same_as_among_others() -> None:
    columns = rows(20, seed=3)
    together = score_summaries(SUMMARY_METRICS, *columns, False, seed=4)
    assert {name: score_summaries([name], *columns, False, seed=4)[name] for name in SUMMARY_METRICS} == together


def values(
    references: list[list[str]], answers: SummaryTexts, sources: SummaryTexts, characters: bool = False
) -> dict[str, float]:
    return {
        name: score.value
        for name, score in score_summaries(SUMMARY_METRICS, references, answers, sources, characters).items()
    }


def test_an_answer_without_words_scores_nothing() -> None:
    for answer in ("", " ", "?!"):
        found = values([["the cat sat"]], [answer], ["the cat sat on a mat"])
        assert found == dict.fromkeys(SUMMARY_METRICS, 0.0)


def test_an_answer_like_its_reference_scores_1_and_its_interval_says_how_little_one_row_knows() -> None:
    found = score_summaries(SUMMARY_METRICS, [["the cat sat"]], ["the cat sat"], ["dogs ran"], False)
    for name in (*ROUGE_METRICS, "chrf"):
        assert found[name].value == found[name].high == pytest.approx(1)
        assert found[name].low == pytest.approx(0.2065, abs=1e-4)  # Wilson's of one row of one
    assert found["length_ratio"].value == found["novelty"].value == 1
    assert found["copy"].value == found["density"].value == found["repetition"].value == 0


def test_the_length_ratio_is_of_sums_over_the_mean_reference() -> None:
    found = values([["a b c d", "a b"], ["a"]], ["a b c", "a b c"], ["", ""])
    assert found["length_ratio"] == pytest.approx(6 / 4)
    assert math.isnan(values([["!"]], ["a"], [""])["length_ratio"])


def test_copying_is_a_mean_over_rows() -> None:
    found = values([["x"]] * 2, ["the cat lay on the red mat", "the cat sat"], ["the cat sat on the mat"] * 2)
    assert found["copy"] == pytest.approx((5 / 7 + 1) / 2)
    assert found["density"] == pytest.approx((9 / 7 + 3) / 2)
    assert found["novelty"] == pytest.approx((4 / 6 + 0) / 2)
    assert COPYING_METRICS.keys() == {"repetition", "copy", "density", "novelty"}


def test_chinese_is_scored_by_its_characters_never_as_nothing() -> None:
    references, answers = [["基于BERT的情感分析"]], ["基于 BERT 情感 分类"]
    found = values(references, answers, [""], characters=True)
    assert found["rouge1"] == pytest.approx(2 * 6 / (8 + 7))
    assert found["rougeL"] == pytest.approx(2 * 6 / (8 + 7))
    assert found["rouge2"] == pytest.approx(2 * 4 / (7 + 6))
    assert found["length_ratio"] == pytest.approx(7 / 8)
    # Without it words end at spaces and signs; rouge_score would see "bert" alone.
    assert values(references, references[0], [""])["rouge1"] == 1


def test_spaces_between_chinese_characters_change_no_value() -> None:
    chance = random.Random(5)
    texts = ["".join(chance.choices("我喜欢看电影今天", k=chance.randint(0, 9))) for _ in range(60)]
    references, answers, sources = [[text] for text in texts[:20]], texts[20:40], texts[40:]
    apart = (
        [[" ".join(row[0])] for row in references],
        *([" ".join(text) for text in some] for some in (answers, sources)),
    )
    assert values(*apart, characters=True) == pytest.approx(values(references, answers, sources, characters=True))


def test_accented_and_foreign_words_are_whole_words() -> None:
    found = score_summaries(["rouge1"], [["Кошка сидела дома"]], ["кошка спала дома"], [""], False)["rouge1"]
    assert found.value == pytest.approx(2 / 3)
    assert "|tok:words|stemmer:none|" in found.signature


def test_signatures_name_metric_variant_library_and_interval() -> None:
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


def test_worse_answers_move_repetition_up_and_rouge_down() -> None:
    better = values([["the cat sat on a mat"]], ["the cat sat on a mat"], [""])
    worse = values([["the cat sat on a mat"]], ["the mat the mat the mat"], [""])
    assert SUMMARY_LOWER_IS_BETTER == ("repetition",)
    assert better["repetition"] < worse["repetition"]
    assert better["rougeL"] > worse["rougeL"]


def test_faults_of_the_caller_are_no_silent_score() -> None:
    with pytest.raises(KeyError, match="rouge3"):
        score_summaries(["rouge3"], [["a"]], ["a"], ["a"], False)
    with pytest.raises(ValueError, match=r"^2 references and 1 answers: one of each a row is needed$"):
        make_summary_statistic(["rougeL"], [["a"], ["a"]], ["a"], ["a"], False)
