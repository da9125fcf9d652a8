"""Metrics that are plain functions: equal to the counts metrics, in any order of rows; direction and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.errors import DataError
from llmkit.metrics import plain
from llmkit.metrics.plain import compare_plain_metric, is_lower_better, make_plain_statistic, score_plain_metrics
from llmkit.metrics.regression import make_regression_statistic
from llmkit.version import __version__

NUMBERS = st.floats(-100, 100)
LABELS = st.sampled_from(["bad", "good"])


def share_right(references: Sequence[str], predictions: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(references, predictions, strict=True)) / len(references)


def mean_error(references: Sequence[float], predictions: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(references, predictions, strict=True)) / len(references)


mean_error.lower_is_better = True  # type: ignore[attr-defined]
mean_error.resamples = 50  # type: ignore[attr-defined]
share_right.resamples = 50  # type: ignore[attr-defined]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30), st.integers(0, 9))
def test_a_plain_mean_absolute_error_equals_the_counts_metric(rows: list[tuple[float, float]], seed: int) -> None:
    references, predictions = [one for one, _ in rows], [other for _, other in rows]
    counts = np.random.default_rng(seed).integers(0, 4, (5, len(rows))).astype(float)
    counts[:, 0] += 1
    ours = make_regression_statistic(["mae"], references, predictions)(counts)
    assert make_plain_statistic([mean_error], references, predictions)(counts) == pytest.approx(ours, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30), st.integers(0, 9))
def test_a_plain_accuracy_equals_the_counts_metric(rows: list[tuple[str, str]], seed: int) -> None:
    from llmkit.metrics.classification.single_label import make_classification_statistic

    references, predictions = [one for one, _ in rows], [other for _, other in rows]
    counts = np.random.default_rng(seed).integers(0, 4, (5, len(rows))).astype(float)
    counts[:, 0] += 1
    ours = make_classification_statistic(["accuracy"], references, predictions, labels=["bad", "good"])(counts)
    assert make_plain_statistic([share_right], references, predictions)(counts) == pytest.approx(ours)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30), st.randoms())
def test_a_score_contains_its_value_and_ignores_the_order_of_rows(rows: list[tuple[str, str]], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    scores, again = (
        score_plain_metrics([share_right], [one for one, _ in table], [other for _, other in table])
        for table in (rows, shuffled)
    )
    assert scores == again
    score = scores["share_right"]
    assert score.low <= score.value <= score.high


def test_the_interval_is_near_that_of_the_counts_metric() -> None:
    def right(references: Sequence[str], predictions: Sequence[str]) -> float:
        return share_right(references, predictions)

    predictions = ["good"] * 70 + ["bad"] * 30
    score = score_plain_metrics([right], ["good"] * 100, predictions, digests=["ab" * 32])["right"]
    assert score.value == 0.7
    assert (score.low, score.high) == pytest.approx((0.6, 0.785), abs=0.02)  # Wilson: 0.604 to 0.781
    assert score.signature == f"right|sha256:abababababab|interval:bca,1000,seed=0|llmkit {__version__}"


def test_few_resamples_need_no_calls_for_single_rows() -> None:
    calls = []

    def count(references: Sequence[str], predictions: Sequence[str]) -> int:
        calls.append(len(predictions))
        return references.count("a")

    count.resamples = 20  # type: ignore[attr-defined]
    (score,) = score_plain_metrics([count], ["a", "b"] * 5, ["a"] * 10).values()
    assert score.signature.split("|")[2] == "interval:percentile,20,seed=0"
    assert calls == [10] * 22  # the value, the value among the resamples, and the resamples
    assert math.isnan(score_plain_metrics([count], ["a"], ["a"], intervals=False)["count"].low)
    assert calls[22:] == [1]


def test_a_model_does_not_differ_from_itself() -> None:
    predictions = ["good", "bad"] * 10
    assert compare_plain_metric(share_right, ["good"] * 20, predictions, predictions) == (0, 0, 0)
    value, low, high = compare_plain_metric(share_right, ["good"] * 20, predictions, ["good"] * 20)
    assert value == 0.5
    assert 0.2 < low < value < high < 0.8


def test_an_undefined_resample_is_left_out() -> None:
    def share_of_good(references: Sequence[str], predictions: Sequence[str]) -> float:
        good = [b for a, b in zip(references, predictions, strict=True) if a == "good"]
        return good.count("good") / len(good)

    statistic = make_plain_statistic([share_of_good, share_right], ["good", "bad"], ["good", "good"])
    expected = np.array([[1, 0.5], [math.nan, 0]])
    assert statistic(np.array([[1.0, 1.0], [0.0, 2.0]])) == pytest.approx(expected, nan_ok=True)
    score = score_plain_metrics([share_of_good], ["good", "bad"], ["good", "good"])["share_of_good"]
    assert (score.value, score.low, score.high) == (1, 1, 1)


def test_nan_is_an_undefined_score_and_numpy_numbers_are_accepted() -> None:
    def undefined(references: Sequence[str], predictions: Sequence[str]) -> float:
        print("noise")
        return np.float32("nan")  # type: ignore[return-value]

    (score,) = score_plain_metrics([undefined], ["a"], ["a"]).values()
    assert np.isnan([score.value, score.low, score.high]).all()
    assert is_lower_better(mean_error)
    assert not is_lower_better(undefined)


def test_printed_output_of_a_function_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(references: Sequence[str], predictions: Sequence[str]) -> float:
        print("noise")
        return 1.0

    score_plain_metrics([noisy], ["a"], ["a"], intervals=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "noise\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "returns bool, not one number"),
        (np.bool_(True), "returns bool, not one number"),
        ([1.0], "returns list, not one number"),
        (None, "returns NoneType, not one number"),
        (1j, "returns complex, not one number"),
        (math.inf, "returns inf"),
    ],
)
def test_a_value_that_is_no_number_is_an_error(value: Any, message: str) -> None:
    def mine(references: Sequence[str], predictions: Sequence[str]) -> Any:
        return value

    with pytest.raises(DataError) as error:
        score_plain_metrics([mine], ["a"], ["a"], origin="./mine.py")
    assert str(error.value) == f"./mine.py: mine: {message}; fix the function"


def test_a_function_that_fails_on_all_rows_is_an_error() -> None:
    def mine(references: Sequence[str], predictions: Sequence[str]) -> float:
        raise SystemExit(3)

    with pytest.raises(DataError, match=r"^mine: SystemExit: 3; fix the function$"):
        score_plain_metrics([mine], ["a"], ["a"])


@pytest.mark.parametrize("resamples", [0, 1.5, True, "many"])
def test_a_wrong_number_of_resamples_is_an_error(resamples: Any) -> None:
    def mine(references: Sequence[str], predictions: Sequence[str]) -> float:
        return 1.0

    mine.resamples = resamples  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"mine: resamples = .* is not a positive whole number; fix the function"):
        score_plain_metrics([mine], ["a"], ["a"])


def test_the_signature_follows_the_source_of_a_function() -> None:
    assert plain.hash_source(mean_error) == plain.hash_source(mean_error) != plain.hash_source(share_right)
    assert len(plain.hash_source(eval("lambda a, b: 1.0"))) == 64  # without source
