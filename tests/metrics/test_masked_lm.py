"""Metrics of masked language models are ratios of sums, in any order of the documents."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.metrics.masked_lm import MASKED_LM_METRICS, make_masked_lm_statistic, score_masked_lm

sums = st.fixed_dictionaries(
    {
        "loss": st.floats(0, 50),
        "masked": st.integers(1, 30).map(float),
        "correct": st.just(0.0),
        "pseudo_loss": st.floats(0, 300),
        "tokens": st.integers(1, 100).map(float),
    }
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(sums, min_size=1, max_size=8), st.randoms())
def test_scores_are_ratios_of_sums_in_any_order(documents: list[dict[str, float]], shuffler: object) -> None:
    found = score_masked_lm(MASKED_LM_METRICS, documents, "x")
    loss = sum(one["loss"] for one in documents) / sum(one["masked"] for one in documents)
    pseudo = sum(one["pseudo_loss"] for one in documents) / sum(one["tokens"] for one in documents)
    assert found["loss"].value == pytest.approx(loss, abs=1e-9)
    assert found["perplexity"].value == pytest.approx(math.exp(loss), rel=1e-9)
    assert found["pseudo_perplexity"].value == pytest.approx(math.exp(pseudo), rel=1e-9)
    for score in found.values():
        assert score.low <= score.value <= score.high
    shuffler.shuffle(documents)  # type: ignore[attr-defined]
    again = score_masked_lm(MASKED_LM_METRICS, documents, "x")
    for name, score in found.items():
        assert (again[name].low, again[name].high) == pytest.approx((score.low, score.high), rel=1e-9)


def test_zero_counts_are_undefined_and_huge_losses_stay_finite() -> None:
    zero = {"loss": 0.0, "masked": 0.0, "correct": 0.0}
    found = score_masked_lm(["loss", "masked_accuracy"], [zero, zero], "x")
    assert math.isnan(found["loss"].value)
    huge = score_masked_lm(["perplexity"], [{"loss": 1e6, "masked": 1.0, "correct": 0.0}] * 2, "x")
    assert math.isfinite(huge["perplexity"].value)


def test_the_statistic_weights_documents_by_their_counts() -> None:
    documents = [{"loss": 1.0, "masked": 1.0, "correct": 1.0}, {"loss": 6.0, "masked": 2.0, "correct": 0.0}]
    values = make_masked_lm_statistic(["loss", "masked_accuracy"], documents)(np.array([[1.0, 1.0], [2.0, 0.0]]))
    np.testing.assert_allclose(values, [[7 / 3, 1 / 3], [1.0, 1.0]])


def test_the_signature_names_the_masking() -> None:
    one = {"loss": 1.0, "masked": 1.0, "correct": 1.0}
    assert score_masked_lm(["loss"], [one], "masks")["loss"].signature.startswith(
        "loss|masks|interval:bca over documents"
    )
