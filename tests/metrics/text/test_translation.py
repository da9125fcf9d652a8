"""Translation metrics equal sacrebleu's corpus scores on the rows and on any resample."""

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


def make_streams(references: list[list[str]]) -> list[list[str | None]]:
    """Return reference make_streams for sacrebleu: the first reference of all rows, the second, and so on."""
    return [[row[i] if i < len(row) else None for row in references] for i in range(max(map(len, references)))]


def sacrebleu_scores(references: list[list[str]], predictions: list[str], metrics: list | None = None) -> list[float]:
    metrics = metrics or [BLEU(), CHRF(), TER()]
    return [metric.corpus_score(predictions, make_streams(references)).score / 100 for metric in metrics]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=5), st.data())
def test_values_on_any_resample_equal_sacrebleu(rows: list[tuple[list[str], str]], data: st.DataObject) -> None:
    references, predictions = [row[0] for row in rows], [row[1] for row in rows]
    drawn = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    counts = np.bincount(drawn, minlength=len(rows))[None].astype(float)
    found = make_translation_statistic(TRANSLATION_METRICS, references, predictions, predictions, False)(counts)[0]
    assert found == pytest.approx(
        sacrebleu_scores([references[i] for i in drawn], [predictions[i] for i in drawn]), abs=1e-9
    )


def draw_corpus(n: int, seed: int, vocabulary: str | list[str], space: str = " ") -> tuple[list[list[str]], list[str]]:
    rng = random.Random(seed)

    def text() -> str:
        return space.join(rng.choices(vocabulary, k=rng.randint(1, 12)))

    references = [[text() for _ in range(rng.choice([1, 2]))] for _ in range(n)]
    # Some words are shared, so that BLEU is above 0.
    return references, [row[0][: rng.randint(1, 30)] + space + text() for row in references]


@pytest.mark.slow
def test_a_thousand_corpora_equal_sacrebleu() -> None:
    metrics = [BLEU(), CHRF()]
    for seed in range(1000):
        references, predictions = draw_corpus(1 + seed % 4, seed, ["the", "cat", "sat", "on", "a", "mat."])
        found = make_translation_statistic(TRANSLATION_METRICS[:2], references, predictions, predictions, False)(
            np.ones((1, len(predictions)))
        )[0]
        assert found == pytest.approx(sacrebleu_scores(references, predictions, metrics), abs=1e-9)


@pytest.mark.parametrize(
    ("vocabulary", "words", "metrics"),
    [
        ("我喜欢看电影。", "zh", [BLEU(tokenize="zh"), CHRF(), TER(normalized=True, asian_support=True)]),
        (JAPANESE, "char", [BLEU(tokenize="char"), CHRF()]),
    ],
)
def test_scripts_without_spaces_use_sacrebleu_tokenizers(vocabulary: str, words: str, metrics: list) -> None:
    references, predictions = draw_corpus(40, 1, vocabulary, space="")
    assert choose_sacrebleu_tokenizer(references, True) == words
    found = score_translations(TRANSLATION_METRICS[: len(metrics)], references, predictions, predictions, True)
    assert [score.value for score in found.values()] == pytest.approx(
        sacrebleu_scores(references, predictions, metrics), abs=1e-9
    )
    assert f"|tok:{words}|" in found["bleu"].signature


def test_ter_of_japanese_counts_characters() -> None:
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
def test_the_tokenizer_depends_on_the_script(texts: list[str], characters: bool, words: str) -> None:
    assert choose_sacrebleu_tokenizer([texts], characters) == words


def test_scores_are_in_their_intervals_and_ignore_row_order() -> None:
    for seed in range(4):
        references, predictions = draw_corpus(2 + 10 * seed, seed, ["the", "cat", "sat", "on"])
        found = score_translations(TRANSLATION_METRICS, references, predictions, predictions, False)
        assert repr(found) == repr(
            score_translations(TRANSLATION_METRICS, references[::-1], predictions[::-1], predictions[::-1], False)
        )
        for name, score in found.items():
            assert score.low <= score.value <= score.high
            assert score_translations([name], references, predictions, predictions, False)[name] == score


def test_empty_and_perfect_predictions() -> None:
    empty = score_translations(TRANSLATION_METRICS, [["a cat sat here"]] * 3, [""] * 3, [""] * 3, False)
    assert {name: score.value for name, score in empty.items()} == {"bleu": 0, "chrf": 0, "ter": 1}
    same = score_translations(TRANSLATION_METRICS, [["a cat sat here"]] * 3, ["a cat sat here"] * 3, [""] * 3, False)
    assert {name: score.value for name, score in same.items()} == pytest.approx({"bleu": 1, "chrf": 1, "ter": 0})
    # Wilson's bound for three perfect rows.
    assert same["bleu"].low == same["chrf"].low == pytest.approx(0.4385, abs=1e-4)
    assert same["ter"].high == pytest.approx(1 - 0.4385, abs=1e-4)
    assert TRANSLATION_LOWER_IS_BETTER == ("ter",)


def test_signatures_are_sacrebleu_signatures_with_the_interval() -> None:
    found = score_translations(TRANSLATION_METRICS, [["a"], ["b", "c"]], ["a", "b"], ["", ""], False, seed=3)
    rest = f"version:{version('sacrebleu')}|interval:bca,2000,seed=3|llmkit {__version__}"
    assert {name: score.signature for name, score in found.items()} == {
        "bleu": f"bleu|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|{rest}",
        "chrf": f"chrf|nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|{rest}",
        "ter": f"ter|nrefs:var|case:lc|tok:tercom|norm:no|punct:yes|asian:no|{rest}",
    }


def test_invalid_arguments_raise() -> None:
    with pytest.raises(KeyError, match="meteor"):
        score_translations(["meteor"], [["a"]], ["a"], ["a"], False)
    with pytest.raises(ValueError, match=r"^1 references and 2 predictions: one of each is needed per row$"):
        make_translation_statistic(["bleu"], [["a"]], ["a", "b"], ["a", "b"], False)
