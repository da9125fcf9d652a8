"""Scores of translations equal sacrebleu's corpus scores, on the rows and on any resample of them."""

from __future__ import annotations

import random
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from llmkit.metrics.text.sacrebleu_counts import choose_sacrebleu_tokenizer
from llmkit.metrics.text.translation import (
    TRANSLATION_LOWER_IS_BETTER,
    TRANSLATION_METRICS,
    make_translation_statistic,
    score_translations,
)
from llmkit.version import __version__

TEXT = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "It's", "3.5", "."]), max_size=8).map(" ".join)
ROW = st.tuples(st.lists(TEXT, min_size=1, max_size=3), TEXT)
JAPANESE = "これはペンです猫が好き"


def streams(references: list[list[str]]) -> list[list[str | None]]:
    """As sacrebleu wants them: the first reference of all rows, the second ..."""
    return [[row[i] if i < len(row) else None for row in references] for i in range(max(map(len, references)))]


def expected(references: list[list[str]], answers: list[str], metrics: list | None = None) -> list[float]:
    metrics = metrics or [BLEU(), CHRF(), TER()]
    return [metric.corpus_score(answers, streams(references)).score / 100 for metric in metrics]


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=5), st.data())
def test_values_on_any_resample_are_sacrebleus(rows: list[tuple[list[str], str]], data: st.DataObject) -> None:
    references, answers = [row[0] for row in rows], [row[1] for row in rows]
    drawn = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    counts = np.bincount(drawn, minlength=len(rows))[None].astype(float)
    found = make_translation_statistic(TRANSLATION_METRICS, references, answers, answers, False)(counts)[0]
    assert found == pytest.approx(expected([references[i] for i in drawn], [answers[i] for i in drawn]), abs=1e-9)


def corpus(n: int, seed: int, vocabulary: str | list[str], space: str = " ") -> tuple[list[list[str]], list[str]]:
    chance = random.Random(seed)

    def text() -> str:
        return space.join(chance.choices(vocabulary, k=chance.randint(1, 12)))

    references = [[text() for _ in range(chance.choice([1, 2]))] for _ in range(n)]
    # Some words are shared, so that BLEU is not 0 everywhere.
    return references, [row[0][: chance.randint(1, 30)] + space + text() for row in references]


def test_a_thousand_corpora_of_real_matches() -> None:
    metrics = [BLEU(), CHRF()]
    for seed in range(1000):
        references, answers = corpus(1 + seed % 4, seed, ["the", "cat", "sat", "on", "a", "mat."])
        found = make_translation_statistic(TRANSLATION_METRICS[:2], references, answers, answers, False)(
            np.ones((1, len(answers)))
        )[0]
        assert found == pytest.approx(expected(references, answers, metrics), abs=1e-9)


@pytest.mark.parametrize(
    ("vocabulary", "words", "metrics"),
    [
        ("我喜欢看电影。", "zh", [BLEU(tokenize="zh"), CHRF(), TER(normalized=True, asian_support=True)]),
        (JAPANESE, "char", [BLEU(tokenize="char"), CHRF()]),
    ],
)
def test_scripts_without_spaces_have_sacrebleus_own_tokenizer(vocabulary: str, words: str, metrics: list) -> None:
    references, answers = corpus(40, 1, vocabulary, space="")
    assert choose_sacrebleu_tokenizer(references, True) == words
    found = score_translations(TRANSLATION_METRICS[: len(metrics)], references, answers, answers, True)
    assert [score.value for score in found.values()] == pytest.approx(expected(references, answers, metrics), abs=1e-9)
    assert f"|tok:{words}|" in found["bleu"].signature


def test_edits_of_japanese_are_of_characters() -> None:
    found = score_translations(["ter"], [["これはペンです"]], ["これは猫です"], [""], True)["ter"]
    assert found.value == pytest.approx(2 / 7)
    assert "|tok:char+tercom|" in found.signature


@pytest.mark.parametrize(
    ("texts", "characters", "words"),
    [
        (["plain"], False, "13a"),
        (["我喜欢"], False, "13a"),
        (["我喜欢看电影" * 5 + "の"], True, "zh"),
        (["ภาษาไทย"], True, "char"),
        (["plain"], True, "zh"),
    ],
)
def test_the_tokenizer_follows_the_script(texts: list[str], characters: bool, words: str) -> None:
    assert choose_sacrebleu_tokenizer([texts], characters) == words


def test_scores_lie_in_their_intervals_and_the_order_of_rows_changes_no_bit() -> None:
    for seed in range(4):
        references, answers = corpus(2 + 10 * seed, seed, ["the", "cat", "sat", "on"])
        found = score_translations(TRANSLATION_METRICS, references, answers, answers, False)
        assert repr(found) == repr(
            score_translations(TRANSLATION_METRICS, references[::-1], answers[::-1], answers[::-1], False)
        )
        for name, score in found.items():
            assert score.low <= score.value <= score.high
            assert score_translations([name], references, answers, answers, False)[name] == score


def test_empty_answers_and_faultless_ones() -> None:
    empty = score_translations(TRANSLATION_METRICS, [["a cat sat here"]] * 3, [""] * 3, [""] * 3, False)
    assert {name: score.value for name, score in empty.items()} == {"bleu": 0, "chrf": 0, "ter": 1}
    same = score_translations(TRANSLATION_METRICS, [["a cat sat here"]] * 3, ["a cat sat here"] * 3, [""] * 3, False)
    assert {name: score.value for name, score in same.items()} == pytest.approx({"bleu": 1, "chrf": 1, "ter": 0})
    # Three rows without a fault: Wilson's bound.
    assert same["bleu"].low == same["chrf"].low == pytest.approx(0.4385, abs=1e-4)
    assert same["ter"].high == pytest.approx(1 - 0.4385, abs=1e-4)
    assert TRANSLATION_LOWER_IS_BETTER == ("ter",)


def test_signatures_are_sacrebleus_with_the_interval() -> None:
    found = score_translations(TRANSLATION_METRICS, [["a"], ["b", "c"]], ["a", "b"], ["", ""], False, seed=3)
    rest = f"version:{version('sacrebleu')}|interval:bca,2000,seed=3|llmkit {__version__}"
    assert {name: score.signature for name, score in found.items()} == {
        "bleu": f"bleu|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|{rest}",
        "chrf": f"chrf|nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|{rest}",
        "ter": f"ter|nrefs:var|case:lc|tok:tercom|norm:no|punct:yes|asian:no|{rest}",
    }


def test_faults_of_the_caller_are_no_silent_score() -> None:
    with pytest.raises(KeyError, match="meteor"):
        score_translations(["meteor"], [["a"]], ["a"], ["a"], False)
    with pytest.raises(ValueError, match=r"^1 references and 2 answers: one of each a row is needed$"):
        make_translation_statistic(["bleu"], [["a"]], ["a", "b"], ["a", "b"], False)
